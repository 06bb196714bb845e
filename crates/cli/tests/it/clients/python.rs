//! The official Python client: watches over bad connections, the dynamic client, server-side apply, TokenRequest.

use super::proxy::Proxy;
use super::{Lines, fixture, python};
use crate::machine::{Machine, Outcome};

#[test]
fn a_watch_goes_on_where_it_was_cut() {
    let Some(mut python) = python(&["kubernetes"]) else { return };
    let machine = Machine::up();
    let proxy = Proxy::of(&machine);
    python.arg(fixture("python/watch.py")).arg(proxy.kubeconfig()).arg(machine.kubeconfig());
    let mut program = Lines::of(python);
    let mut cut = 0;
    let last = loop {
        let line = program.next();
        if line != "cut" {
            break line;
        }
        cut += usize::from(proxy.cut() > 0);
    };
    assert_eq!(cut, 4);
    // The program compares what it saw with what was written.
    assert_eq!(last, "cuts 4");
    program.done();
}

#[test]
fn dynamic_client_apply_and_tokens() {
    let Some(mut python) = python(&["kubernetes"]) else { return };
    let machine = Machine::up();
    python.arg(fixture("python/dynamic.py")).arg(machine.kubeconfig()).arg(fixture("echo.yaml"));
    let out = Outcome::from(python.output().unwrap()).ok().stdout;
    insta::assert_snapshot!(out, @r#"
    e one 1
    404 echoes.clients.example.test "e" not found
    409 True
    three ['second']
    four
    1
    True
    403 True
    system:serviceaccount:default:robot
    "#);
}
