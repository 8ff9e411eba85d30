//! An HTTP server that answers as a script says. So tests get answers that a real registry cannot be made to give.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method and path.
    pub line: String,
    /// The lines of the header.
    pub headers: Vec<String>,
    pub body: String,
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, further header lines (each with its end), media type, body.
    Answer(u16, String, &'static str, String),
    /// These bytes, and no more.
    Raw(Vec<u8>),
    /// Nothing, until the client goes away.
    Silence,
    /// The head of an answer, and then one byte every 20 ms without end.
    Drip,
    /// The connection ends.
    HangUp,
}

impl Reply {
    pub fn json(body: &str) -> Self {
        Self::Answer(200, String::new(), "application/vnd.schemaregistry.v1+json", body.to_owned())
    }

    pub fn status(status: u16) -> Self {
        let body = format!(r#"{{"error_code":{status},"message":"on purpose"}}"#);
        Self::Answer(status, String::new(), "application/json", body)
    }
}

type Respond = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// A running server; dropping it ends it.
pub struct Script {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Script {
    /// Starts a server; `respond` gets the number of the request (from 0) and the request.
    pub fn start(respond: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let over = Arc::<AtomicBool>::default();
        let respond: Arc<Respond> = Arc::new(respond);
        let (seen, ending) = (Arc::clone(&requests), Arc::clone(&over));
        let acceptor = thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (seen, respond, ending) = (Arc::clone(&seen), Arc::clone(&respond), Arc::clone(&ending));
                connections.push(thread::spawn(move || serve(&stream, &seen, &*respond, &ending)));
            }
            for connection in connections {
                let _ = connection.join();
            }
        });
        Self { address, requests, over, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// One request for each connection.
fn serve(stream: &TcpStream, seen: &Mutex<Vec<Request>>, respond: &Respond, over: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let Some(request) = read(&mut BufReader::new(Patient { stream, over })) else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let mut out = stream;
    let _ = match respond(number, &request) {
        Reply::Answer(status, headers, media_type, body) => write!(
            out,
            "HTTP/1.1 {status} Said\r\nContent-Type: {media_type}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        Reply::Raw(bytes) => out.write_all(&bytes),
        Reply::Silence => Patient { stream, over }.read(&mut [0]).map(drop),
        Reply::Drip => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n";
            let mut written = out.write_all(head.as_bytes());
            while written.is_ok() && !over.load(Ordering::Relaxed) {
                written = out.write_all(b" ");
                thread::sleep(Duration::from_millis(20));
            }
            written
        }
        Reply::HangUp => Ok(()),
    };
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(from: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body).ok()?;
    let first = lines.remove(0);
    let line = first.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, headers: lines, body: String::from_utf8(body).unwrap() })
}

/// Reads until there is something, or the server is to end.
struct Patient<'a> {
    stream: &'a TcpStream,
    over: &'a AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let mut stream = self.stream;
            match stream.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !self.over.load(Ordering::Relaxed) => {}
                result => return result,
            }
        }
    }
}
