//! The service manager hears of the server: ready, alive, reloading, stopping.

use crate::harness::{PATIENCE, Server};
use std::os::unix::net::UnixDatagram;

fn hear(socket: &UnixDatagram) -> String {
    let mut octets = [0; 512];
    let len = socket.recv(&mut octets).expect("the server says something");
    String::from_utf8_lossy(&octets[..len]).into_owned()
}

/// The next that is not a sign of life.
fn hear_news(socket: &UnixDatagram) -> String {
    loop {
        let text = hear(socket);
        if !text.starts_with("WATCHDOG=1") {
            return text;
        }
    }
}

#[test]
fn the_service_manager_hears_how_the_server_is() {
    let mut server = Server::set_up("");
    let path = server.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
    server.set_env("WATCHDOG_USEC", "200000");
    server.start();
    assert_eq!(hear_news(&socket), "READY=1\nSTATUS=serves on 2 shards\n");
    for _ in 0..3 {
        assert_eq!(hear(&socket), "WATCHDOG=1\n");
    }
    server.reload("mx.local.example", "mx2.local.example");
    assert!(hear_news(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(hear_news(&socket), "READY=1\n");
    server.stop();
    assert!(hear_news(&socket).starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="));
}
