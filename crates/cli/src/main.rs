//! The `kubetask` binary.

fn main() {
    kubetask::main();
}
