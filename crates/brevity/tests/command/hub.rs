//! Hub ids, against a server of our own that speaks the Hub's protocol.

use crate::support::*;
use crate::tiny::Tiny;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Clone, Debug)]
struct Request {
    path: String,
    authorization: Option<String>,
}

/// A Hub with one model, `org/tiny-1.5B`; with a token, it answers to no one else.
struct Hub {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Hub {
    fn start(files: PathBuf, token: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &files, token, &log);
            }
        });
        Self { address, requests }
    }

    fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, files: &Path, token: Option<&str>, log: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let (mut range, mut authorization) = (None, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        match line.trim().split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            Some((name, value)) if name == "range" => range = Some(value.to_string()),
            Some((name, value)) if name == "authorization" => authorization = Some(value.to_string()),
            _ => {}
        }
    }
    log.lock().unwrap().push(Request { path: path.clone(), authorization: authorization.clone() });
    let allowed = token.is_none_or(|token| authorization == Some(format!("Bearer {token}")));
    let (head, body) = match allowed {
        true => response(&path, files, range.as_deref()),
        false => ("401 Unauthorized".to_string(), Vec::new()),
    };
    write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

/// Status line with headers, and body.
fn response(path: &str, files: &Path, range: Option<&str>) -> (String, Vec<u8>) {
    if path == "/api/models/org/tiny-1.5B/revision/main" {
        let names = ["README.md", "config.json", "model.safetensors", "onnx/model.onnx", "tokenizer.json"];
        let siblings: Vec<_> = names.iter().map(|name| json!({"rfilename": name})).collect();
        return ("200 OK".into(), json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes());
    }
    let name = path.strip_prefix("/org/tiny-1.5B/resolve/main/");
    let Some(bytes) = name.and_then(|name| std::fs::read(files.join(name)).ok()) else {
        return ("404 Not Found".into(), Vec::new());
    };
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (from, to) = range.unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(bytes.len() - 1, |to: usize| to.min(bytes.len() - 1));
    let tag = format!("{}-{}", name.unwrap_or_default().replace('/', "-"), bytes.len());
    let head = format!(
        "206 Partial Content\r\nETag: \"{tag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {from}-{to}/{}",
        bytes.len()
    );
    (head, bytes[from..=to].to_vec())
}

fn model(directory: &Path) -> PathBuf {
    let files = directory.join("files");
    Tiny { layers: 1, ..Tiny::narrow() }.write(&files);
    files
}

#[test]
fn a_model_is_fetched_once_and_then_lies_in_the_cache() {
    let directory = temporary();
    let hub = Hub::start(model(directory.path()), Some("secret"));
    let home = directory.path().join("home");
    let with = |endpoint: &str, args: &[&str]| {
        let mut command = brevity(&[args, &["--json"]].concat());
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", &home).env("HF_TOKEN", "secret");
        ran(command.current_dir(directory.path()))
    };
    let seen = with(&hub.address, &["inspect", "org/tiny-1.5B"]).json();
    assert_eq!(seen["architecture"], "llama");
    let requests = hub.seen();
    assert!(requests.iter().all(|request| request.authorization.as_deref() == Some("Bearer secret")), "{requests:?}");
    assert!(requests.iter().any(|request| request.path.ends_with("/model.safetensors")));
    assert!(!requests.iter().any(|request| request.path.contains("onnx") || request.path.contains("README")));
    assert!(home.join("hub/models--org--tiny-1.5B/snapshots").join(COMMIT).join("config.json").exists());

    let args = ["compress", "--method", "rtn", "org/tiny-1.5B", "--grid", "q8_0", "--no-eval"];
    let report = with(&hub.address, &args).json();
    assert_eq!(report["output"], "tiny-1.5B-rtn-q8_0.gguf");
    assert_eq!(hub.seen().len(), 1, "only the list of files is asked for again");

    let unreachable = "http://127.0.0.1:9";
    with(unreachable, &["inspect", "org/tiny-1.5B"]).json();
    with(unreachable, &["inspect", "org/other"]).refused(&["org/other", "next:", "network"]);
}

#[test]
fn offline_the_hub_is_left_alone() {
    let directory = temporary();
    let hub = Hub::start(model(directory.path()), None);
    let home = directory.path().join("home");
    let with = |offline: &str| {
        let mut command = brevity(&["run", "org/tiny-1.5B", "-p", "x", "-n", "2", "--json"]);
        ran(command.env("HF_ENDPOINT", &hub.address).env("HF_HOME", &home).env("HF_HUB_OFFLINE", offline))
    };
    with("1").refused(&["HF_HUB_OFFLINE"]);
    assert_eq!(hub.seen().len(), 0);
    let fetched = with("0").json();
    assert!(!hub.seen().is_empty());
    assert_eq!(with("1").json()["text"], fetched["text"]);
    assert_eq!(hub.seen().len(), 0);
}

#[test]
fn a_hub_that_says_no_is_explained() {
    let directory = temporary();
    let files = model(directory.path());
    let open = Hub::start(files.clone(), None);
    let closed = Hub::start(files, Some("secret"));
    let with = |hub: &Hub, name: &str| {
        let mut command = brevity(&["inspect", name, "--json"]);
        ran(command.env("HF_ENDPOINT", &hub.address).env("HF_HOME", directory.path().join("home")))
    };
    with(&open, "org/absent").refused(&["org/absent", "404", "no such model", "next:"]);
    with(&closed, "org/tiny-1.5B").refused(&["401", "HF_TOKEN"]);
    assert!(closed.seen().iter().all(|request| request.authorization.is_none()));
    open.seen();
    for path in ["./org/tiny-1.5B", "org/tiny.gguf", "a/b/c/d"] {
        with(&open, path).refused(&["no such file"]);
    }
    assert_eq!(open.seen().len(), 0, "paths are never looked for on the Hub");
}
