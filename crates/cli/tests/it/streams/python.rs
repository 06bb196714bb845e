//! The official Python client's streams: WebSocket channels, version 4.

use std::process::Command;

use super::{create, pod, port_forward};
use crate::machine::{Machine, require};

const PROGRAM: &str = r#"
import sys, json
from kubernetes import client, config
from kubernetes.stream import stream, portforward

config.load_kube_config(sys.argv[1])
v1 = client.CoreV1Api()
call = lambda **more: stream(v1.connect_get_namespaced_pod_exec, "p", "default", **more)
print(call(command=["echo", "hello"], stdout=True, stderr=True, stdin=False, tty=False), end="")
ws = call(command=["sh", "-c", "read x; echo out-$x; echo err >&2; exit 5"], stdout=True, stderr=True, stdin=True,
          tty=False, _preload_content=False)
ws.write_stdin("abc\n")
ws.run_forever(timeout=30)
print(ws.read_stdout(timeout=1), ws.read_stderr(timeout=1), ws.returncode)
ws = call(command=["sh", "-c", "echo $(stty size); read x; echo size:$(stty size)"], stdout=True, stderr=True, stdin=True,
          tty=True, _preload_content=False)
ws.readline_stdout(timeout=30)
ws.write_channel(4, json.dumps({"Width": 91, "Height": 31}))
ws.write_stdin("\n")
text = ""
while ws.is_open() or ws.peek_stdout():
    ws.update(timeout=30)
    text += ws.read_stdout() if ws.peek_stdout() else ""
print("size:31 91" in text)
ws = call(command=["no-such-program"], stdout=True, stderr=True, stdin=False, tty=False, _preload_content=False)
ws.run_forever(timeout=30)
status = json.loads(ws.read_channel(3))
print(status["status"], status["reason"], "executable file not found" in status["message"])
ws = stream(v1.connect_get_namespaced_pod_attach, "a", "default", container="main", stdin=True, stdout=True, stderr=True,
            tty=False, _preload_content=False)
ws.write_stdin("one\n")
print(ws.readline_stdout(timeout=30))
ws.close()
port = int(sys.argv[2])
pf = portforward(v1.connect_get_namespaced_pod_portforward, "p", "default", ports=str(port))
sock = pf.socket(port)
sock.setblocking(True)
sock.sendall(b"ping" * 10000)
got = b""
while len(got) < 40000:
    got += sock.recv(65536)
print(got == b"ping" * 10000, pf.error(port))
sock.close()
log = lambda **more: v1.read_namespaced_pod_log("a", "default", **more)
print(repr(log(tail_lines=1)), len(log(timestamps=True).split(" ")[0]) > 20)
for line in v1.read_namespaced_pod_log("a", "default", follow=True, _preload_content=False):
    print(line)
    break
"#;

#[test]
fn streams() {
    let there =
        Command::new("python3").args(["-c", "import kubernetes"]).output().is_ok_and(|out| out.status.success());
    if !require("the Python package kubernetes", there) {
        return;
    }
    let machine = Machine::up();
    let attached = pod("a", "while read x; do echo got $x; done", ", stdin: true");
    if create(&machine, "p", &pod("p", "sleep 1000", "")).is_none() || create(&machine, "a", &attached).is_none() {
        return;
    }
    let program = machine.write("streams.py", PROGRAM);
    let port = port_forward::echo().to_string();
    let out = Command::new("python3").arg(program).arg(machine.kubeconfig()).arg(port).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let expect = "hello\nout-abc\n err\n 5\nTrue\nFailure InternalError True\ngot one\nTrue None\n'got one\\n' True\n\
                  b'got one\\n'\n";
    assert_eq!(text, expect);
}
