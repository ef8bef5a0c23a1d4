//! crosvm's 9P server (the crate p9) behind a unix socket: a server for each connection, one frame in, one frame out.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

fn serve(mut stream: UnixStream, root: &str) -> io::Result<()> {
    let mut server = p9::Server::new(Path::new(root), Default::default(), Default::default())?;
    loop {
        let mut head = [0u8; 4];
        match stream.read_exact(&mut head) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        // Grows with what arrives, not with what the size field claims.
        let mut frame = head.to_vec();
        let body = u64::from(u32::from_le_bytes(head)).saturating_sub(4);
        if (&mut stream).take(body).read_to_end(&mut frame)? as u64 != body {
            return Ok(());
        }
        let mut reply = Vec::new();
        server.handle_message(&mut &frame[..], &mut reply)?;
        stream.write_all(&reply)?;
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, root, socket] = &arguments[..] else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "usage: crosvm-p9 DIRECTORY SOCKET"));
    };
    for stream in UnixListener::bind(socket)?.incoming() {
        let (stream, root) = (stream?, root.clone());
        thread::spawn(move || {
            if let Err(e) = serve(stream, &root) {
                eprintln!("connection ended: {e}");
            }
        });
    }
    Ok(())
}
