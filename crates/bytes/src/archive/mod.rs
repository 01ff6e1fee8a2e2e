//! Archives: many files in blocks that stand alone, an index at the end.
//!
//! The bytes of all files, one after the other, are cut into blocks; each is coded on its own and carries the hash of
//! what is stored and of what it stands for, so that any of them can be read alone, and damage ends at its
//! borders. The index names the files in the order of their bytes. `docs/archive-format.md` specifies it.

mod frame;
mod index;
mod pack;
mod reader;
mod unpack;

pub(crate) use index::check_path;
pub use index::{Entry, Kind};
pub use pack::{PackOptions, Packed, pack, pack_against, pack_behind, pack_stream, pack_stream_behind};
pub use reader::{Archive, Block};
pub use unpack::{UnpackOptions, Unpacked, unpack};

/// First bytes of an archive; its version follows.
pub const MAGIC: [u8; 7] = [0x8F, b'B', b'R', b'V', b'A', b'R', b'C'];
/// The version that is written and read.
pub const VERSION: u8 = 1;

/// Told how many bytes of files are done; false stops the work.
pub type Progress<'a> = &'a (dyn Fn(u64) -> bool + Sync);
