//! Compressors that the machine may have, each on one thread.

use anyhow::{Result, bail};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// How a program is asked.
enum Way {
    /// It packs and unpacks from standard input to standard output.
    Filter { pack: &'static [&'static str], unpack: &'static [&'static str] },
    /// It makes the archive `packed` of the file `input`, and unpacks `../packed` in another folder.
    Archive { packed: &'static str, pack: &'static [&'static str], unpack: &'static [&'static str] },
}

/// A program.
pub struct Peer {
    /// What the table calls it.
    pub name: &'static str,
    program: &'static str,
    way: Way,
}

const fn filter(
    name: &'static str,
    program: &'static str,
    pack: &'static [&'static str],
    unpack: &'static [&'static str],
) -> Peer {
    Peer { name, program, way: Way::Filter { pack, unpack } }
}

/// Kanzi in Rust, as Python's package `kanzi` brings it.
const KANZI_PACK: &str = "import sys,kanzi;\
    sys.stdout.buffer.write(kanzi.compress(sys.stdin.buffer.read(),level=9,block_size=100<<20))";
const KANZI_UNPACK: &str = "import sys,kanzi;sys.stdout.buffer.write(kanzi.decompress(sys.stdin.buffer.read()))";

/// All of them.
pub const PEERS: [Peer; 11] = [
    filter("lz4 -1", "lz4", &["-1", "-c"], &["-d", "-c"]),
    filter("zstd -3", "zstd", &["-3", "-c", "-q", "--single-thread"], &["-d", "-c", "-q"]),
    filter("zstd -19", "zstd", &["-19", "-c", "-q", "--single-thread"], &["-d", "-c", "-q"]),
    filter(
        "zstd -22 --long=27",
        "zstd",
        &["--ultra", "-22", "--long=27", "-c", "-q", "--single-thread"],
        &["-d", "-c", "-q", "--long=27"],
    ),
    filter("brotli -q 11", "brotli", &["-q", "11", "-c"], &["-d", "-c"]),
    filter("bzip2 -9", "bzip2", &["-9", "-c"], &["-d", "-c"]),
    filter("bzip3 -b 100", "bzip3", &["-b", "100", "-c"], &["-d", "-c"]),
    filter("xz -9e", "xz", &["-9e", "-T1", "-c"], &["-d", "-c"]),
    filter("gzip -9", "gzip", &["-9", "-c"], &["-d", "-c"]),
    filter("kanzi (Rust) 9", "python3", &["-c", KANZI_PACK], &["-c", KANZI_UNPACK]),
    Peer {
        name: "zpaq -m5",
        program: "zpaq",
        way: Way::Archive {
            packed: "packed.zpaq",
            pack: &["add", "packed.zpaq", "input", "-m5", "-t1"],
            unpack: &["extract", "../packed.zpaq", "-t1"],
        },
    },
];

impl Peer {
    /// The bytes packed; nothing where the program is not there.
    pub fn pack(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        if !self.is_there() {
            return Ok(None);
        }
        self.within(|folder| {
            fs::write(folder.join("input"), bytes)?;
            match self.way {
                Way::Filter { pack, .. } => self.run(folder, pack),
                Way::Archive { packed, pack, .. } => {
                    self.run(folder, pack)?;
                    Ok(fs::read(folder.join(packed))?)
                }
            }
        })
        .map(Some)
    }

    /// The bytes that were packed.
    pub fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>> {
        self.within(|folder| match self.way {
            Way::Filter { unpack, .. } => {
                fs::write(folder.join("input"), packed)?;
                self.run(folder, unpack)
            }
            Way::Archive { packed: name, unpack, .. } => {
                fs::write(folder.join(name), packed)?;
                let back = folder.join("back");
                fs::create_dir(&back)?;
                self.run(&back, unpack)?;
                Ok(fs::read(back.join("input"))?)
            }
        })
    }

    /// Whether it can be started, and Python has the package.
    fn is_there(&self) -> bool {
        let mut command = Command::new(self.program);
        if self.program == "python3" {
            command.args(["-c", "import kanzi"]);
        }
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| self.program != "python3" || status.success())
    }

    /// Runs it in a folder, the file `input` there, if there is one, as its standard input: what it prints.
    fn run(&self, folder: &Path, args: &[&str]) -> Result<Vec<u8>> {
        let input = File::open(folder.join("input")).map_or_else(|_| Stdio::null(), Stdio::from);
        let mut command = Command::new(self.program);
        command.args(args).current_dir(folder).stdin(input).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut out = Vec::new();
        if let Some(stdout) = child.stdout.as_mut() {
            stdout.read_to_end(&mut out)?;
        }
        if !child.wait()?.success() {
            bail!("{} {} failed", self.program, args.join(" "));
        }
        Ok(out)
    }

    /// A folder for one run.
    fn within<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let folder = std::env::temp_dir().join(format!("brevity-peer-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let result = work(&folder);
        fs::remove_dir_all(&folder)?;
        result
    }
}
