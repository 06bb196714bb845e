//! The official client for Node.js: WebSocket channels, version 5.

use std::path::PathBuf;
use std::process::Command;

use super::{create, pod, port_forward};
use crate::machine::{Machine, on_path, require};

const PROGRAM: &str = r#"
import * as k8s from '@kubernetes/client-node';
import { PassThrough, Writable } from 'node:stream';
import net from 'node:net';

const config = new k8s.KubeConfig();
config.loadFromFile(process.argv[2]);
const collect = () => {
    const stream = new Writable({ write(chunk, _, done) { stream.text += chunk; done(); } });
    stream.text = '';
    return stream;
};
const exec = (command, input, tty) => new Promise((resolve, reject) => {
    const [out, err] = [collect(), collect()];
    const stdin = new PassThrough();
    if (input !== null) stdin.end(input);
    new k8s.Exec(config).exec('default', 'p', 'main', command, out, err, input === null ? null : stdin, tty, (status) =>
        resolve({ out: out.text, err: err.text, status })).catch(reject);
});
let done = await exec(['echo', 'hello'], null, false);
console.log(done.out.trim(), done.status.status);
done = await exec(['sh', '-c', 'cat; echo err >&2; exit 6'], 'from node', false);
console.log(done.out, done.err.trim(), done.status.reason, done.status.details.causes[0].message);
done = await exec(['sh', '-c', 'test -t 1 && echo terminal'], null, true);
console.log(done.out.trim());
const attached = collect();
const stdin = new PassThrough();
const ws = await new k8s.Attach(config).attach('default', 'a', 'main', attached, attached, stdin, false);
stdin.write('one\n');
while (!attached.text.includes('got one')) await new Promise((resolve) => setTimeout(resolve, 10));
ws.close();
console.log('attached');
const log = collect();
await new k8s.Log(config).log('default', 'a', 'main', log, { follow: true, tailLines: 1 });
while (!log.text.includes('got one')) await new Promise((resolve) => setTimeout(resolve, 10));
console.log('log');
const forward = new k8s.PortForward(config);
const server = net.createServer((socket) => forward.portForward('default', 'p', [Number(process.argv[3])], socket, null, socket));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const client = net.connect(server.address().port, '127.0.0.1');
let back = '';
client.on('data', (data) => { back += data; });
client.write('ping');
while (!back.includes('ping')) await new Promise((resolve) => setTimeout(resolve, 10));
console.log('forwarded', back);
process.exit(0);
"#;

/// Where `.ci/clients` installs the client; `None` where it did not.
fn modules() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clients/node");
    let there = dir.join("node_modules/@kubernetes/client-node").exists() && on_path("node");
    require("the Node client (see .ci/clients)", there).then_some(dir)
}

#[test]
fn streams() {
    let Some(dir) = modules() else { return };
    let machine = Machine::up();
    let attached = pod("a", "while read x; do echo got $x; done", ", stdin: true");
    if create(&machine, "p", &pod("p", "sleep 1000", "")).is_none() || create(&machine, "a", &attached).is_none() {
        return;
    }
    let program = dir.join("streams.mjs");
    std::fs::write(&program, PROGRAM).unwrap();
    let port = port_forward::echo().to_string();
    let mut command = Command::new("timeout");
    let out = command.args(["90", "node"]).arg(program).arg(machine.kubeconfig()).arg(port).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let expect = "hello Success\nfrom node err NonZeroExitCode 6\nterminal\nattached\nlog\nforwarded ping\n";
    assert_eq!(text, expect);
}
