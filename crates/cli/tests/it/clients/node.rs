//! The official Node client: an informer over bad connections.

use std::io::{BufRead, Write};
use std::process::{Command, Stdio};

use super::proxy::Proxy;
use super::{fixture, installed};
use crate::machine::{Machine, on_path, require};

#[test]
fn an_informer_goes_on_where_it_was_cut() {
    let modules = installed().join("node/node_modules");
    if !require("node", on_path("node"))
        || !require("the Node client (see .ci/clients)", modules.join("@kubernetes/client-node").is_dir())
    {
        return;
    }
    let machine = Machine::up();
    let proxy = Proxy::of(&machine);
    let mut program = Command::new("node")
        .arg(fixture("node/informer.mjs"))
        .args([&modules, proxy.kubeconfig(), &machine.kubeconfig()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = program.stdin.take().unwrap();
    let mut cuts = 0;
    let mut last = String::new();
    for line in std::io::BufReader::new(program.stdout.take().unwrap()).lines() {
        last = line.unwrap();
        if last == "cut" {
            cuts += usize::from(proxy.cut() > 0);
            stdin.write_all(b"done\n").unwrap();
        }
    }
    assert!(program.wait().unwrap().success());
    assert_eq!(cuts, 4);
    assert_eq!(last, "before=0 1");
}
