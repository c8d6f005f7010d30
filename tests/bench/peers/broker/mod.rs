//! Echoing brokers, as cheap as can be: one thread, one read and one write for what comes at once.
//!
//! `peers broker --ws 127.0.0.1:9001,127.0.0.1:9002 --tcp 127.0.0.1:9011` speaks MQTT 3.1.1: a PUBLISH comes
//! back unchanged; who subscribes `tick/<milliseconds>/<payload bytes>` gets one at each interval. It prints
//! `{"event":"listening"}`; the line `stats` on standard input asks what it has seen; the end of input ends it.

mod answer;
mod connection;
pub(crate) mod input;
pub(crate) mod payload;
pub(crate) mod socket;
mod ticks;
pub(crate) mod wire;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use answer::Answer;
use connection::{Connection, Form, Seen};
use input::Input;
use socket::{Readiness, Ready, Socket};
use ticks::Ticks;

/// Tokens from here on are listeners, below it connections.
const LISTENERS: u64 = 1 << 32;
/// What one read takes at most: in the cache, before it is all written.
const BUFFER: usize = 256 << 10;

/// Echoing MQTT brokers for the benchmark.
#[derive(Debug, Parser)]
#[command(name = "peers broker")]
struct Arguments {
    /// Addresses for MQTT over WebSocket.
    #[arg(long, value_delimiter = ',')]
    ws: Vec<SocketAddr>,
    /// Addresses for MQTT over TCP.
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<SocketAddr>,
    /// Look for messages instead of sleeping until one comes.
    #[arg(long)]
    awake: bool,
}

/// Runs the role with the arguments behind its name.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let name = "peers broker".to_owned();
    let arguments = Arguments::parse_from(std::iter::once(&name).chain(arguments));
    match Broker::listen(&arguments).and_then(Broker::serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&json!({ "event": "error", "message": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

/// One line for who started us.
pub(crate) fn say(line: &serde_json::Value) {
    // When nobody reads it, standard input ends as well.
    let _ = writeln!(io::stdout(), "{line}");
}

struct Listener {
    fd: OwnedFd,
    form: Form,
    address: SocketAddr,
    seen: Seen,
}

struct Broker {
    readiness: Readiness,
    listeners: Vec<Listener>,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    ticks: Ticks,
    accepted: u64,
    /// Connections that said what they must not.
    faults: u64,
    last_fault: Option<String>,
    input: Input,
}

impl Broker {
    fn listen(arguments: &Arguments) -> io::Result<Self> {
        wire::check().map_err(io::Error::other)?;
        let readiness = Readiness::new(arguments.awake)?;
        let mut listeners = Vec::new();
        let websocket = arguments.ws.iter().map(|address| (Form::WebSocket, *address));
        for (form, address) in websocket.chain(arguments.tcp.iter().map(|address| (Form::Tcp, *address))) {
            let fd = Socket::listen(address).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })?;
            readiness.watch_input(&fd, LISTENERS + listeners.len() as u64)?;
            listeners.push(Listener { fd, form, address, seen: Seen::default() });
        }
        let input = Input::watch(&readiness)?;
        Ok(Self {
            readiness,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            ticks: Ticks::new(),
            accepted: 0,
            faults: 0,
            last_fault: None,
            input,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        say(&json!({ "event": "listening" }));
        let mut buffer = vec![0; BUFFER];
        let mut out = Answer::default();
        while !self.input.is_over() {
            self.readiness.wait(self.ticks.due())?;
            self.ticks.send(&mut self.connections);
            for at in 0..self.readiness.count() {
                let ready = self.readiness.ready(at);
                match ready.token {
                    input::TOKEN => self.input.read(&self.readiness)?,
                    listener if listener >= LISTENERS => self.accept((listener - LISTENERS) as usize)?,
                    _ => self.turn(ready, &mut buffer, &mut out),
                }
            }
            while let Some(line) = self.input.line() {
                self.obey(&line);
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        let Listener { fd, form, .. } = &self.listeners[listener];
        let Some(socket) = Socket::accept(fd)? else { return Ok(()) };
        let at = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.readiness.watch_changes(&socket, at as u64)?;
        self.connections[at] = Some(Box::new(Connection::new(socket, *form, listener)));
        self.accepted += 1;
        Ok(())
    }

    /// Serve one connection that is ready.
    fn turn(&mut self, ready: Ready, buffer: &mut [u8], out: &mut Answer) {
        let at = ready.token as usize;
        let Some(connection) = self.connections.get_mut(at).and_then(Option::as_mut) else { return };
        let seen = &mut self.listeners[connection.listener].seen;
        let before = connection.subscription;
        let goes_on = serve(connection, ready, buffer, out, seen);
        let after = connection.subscription;
        let ended = match goes_on {
            Ok(goes_on) => !goes_on,
            Err(error) => {
                // A reset is a way to close; what is not understood is a fault.
                if error.kind() == io::ErrorKind::InvalidData {
                    self.faults += 1;
                    self.last_fault = Some(error.to_string());
                }
                true
            }
        };
        if ended {
            self.connections[at] = None;
            self.free.push(at);
        }
        let after = after.filter(|_| !ended);
        if before != after {
            self.ticks.subscribe(at, after);
        }
    }

    fn obey(&self, line: &str) {
        match line {
            "stats" => say(&self.stats()),
            other => say(
                &json!({ "event": "error", "message": format!("`{other}` is no command; write `stats`") }),
            ),
        }
    }

    fn stats(&self) -> serde_json::Value {
        let listeners = self.listeners.iter().enumerate().map(|(at, it)| {
            let held =
                self.connections.iter().flatten().filter(|connection| connection.listener == at).count();
            json!({
                "address": it.address.to_string(),
                "connections": held,
                "host": it.seen.host,
                "x-real-ip": it.seen.x_real_ip,
                "x-forwarded-for": it.seen.x_forwarded_for,
                "x-forwarded-proto": it.seen.x_forwarded_proto,
                "proxy": it.seen.proxy,
            })
        });
        json!({
            "event": "stats",
            "connections": self.connections.iter().flatten().count(),
            "accepted": self.accepted,
            "faults": self.faults,
            "last_fault": self.last_fault,
            "own_cpu_seconds": socket::cpu() as f64 / 1e9,
            "listeners": listeners.collect::<Vec<_>>(),
        })
    }
}

/// Write what waits, read what came, answer it. Whether the connection goes on.
fn serve(
    connection: &mut Connection,
    ready: Ready,
    buffer: &mut [u8],
    out: &mut Answer,
    seen: &mut Seen,
) -> io::Result<bool> {
    if ready.to_write {
        connection.socket.flush()?;
    }
    if !ready.to_read {
        return Ok(true);
    }
    loop {
        let Some(count) = connection.socket.read(buffer)? else { return Ok(true) };
        if count == 0 {
            return Ok(false);
        }
        out.clear();
        connection
            .take(&mut buffer[..count], out, seen)
            .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault.to_string()))?;
        match out.only_own() {
            Some([]) => {}
            Some(bytes) => connection.socket.write(bytes)?,
            None => connection.socket.write_slices(&out.slices(&buffer[..count]))?,
        }
        if connection.is_over() {
            return Ok(false);
        }
        // What did not fill the buffer was all there was; a peer that has closed is read to its end.
        if count < buffer.len() && !ready.is_over {
            return Ok(true);
        }
    }
}
