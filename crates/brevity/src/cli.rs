//! What can be typed.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Compress language models and count every saving and every loss in bits.
///
/// MODEL is a Hugging Face directory, a GGUF file (any part of a split one), a llama2.c .bin with its tokenizer.bin, a
/// directory that Brevity wrote, or a Hub id (org/name, or org/name/file.gguf). Where none is named, the embedded model
/// "nano" is used.
#[derive(Parser)]
#[command(name = "brevity", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Print one JSON object instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// Threads to use (default: one per core)
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// No progress, no remarks: results and errors alone
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a model smaller, to a budget or on one grid, and report in bits what it cost
    Compress(Box<CompressArgs>),
    /// Measure a model: perplexity, bits per byte, divergence from the original, tasks
    Eval(Box<EvalArgs>),
    /// Generate text, or chat
    Run(Box<RunArgs>),
    /// Sum up what a model's matrices see of a text, as llama.cpp's importance matrix
    Imatrix(ImatrixArgs),
    /// Show what a model file holds
    Inspect(InspectArgs),
    /// Write a model in another format or number type
    Convert(ConvertArgs),
    /// Pack files, directories or a stream into an archive, with nothing lost
    Pack(PackArgs),
    /// Unpack an archive, or some of it
    Unpack(UnpackArgs),
    /// List what an archive holds
    List(ListArgs),
    /// Decode all of an archive and check every hash
    Test(TestArgs),
    /// Write a file of an archive, or a part of it, to standard output
    Cat(CatArgs),
    /// Keep a context's cache of keys and values on disk
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Write what changed between two files or directories of weights
    Diff(DiffArgs),
    /// Make the new file or directory from the old one and what `diff` wrote
    Patch(PatchArgs),
    /// List the methods with their papers
    Methods(MethodsArgs),
    /// Measure speed, or every method and grid on one frontier
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// Windows of calibration text, unless the user says otherwise.
pub const CALIBRATION_WINDOWS: usize = 32;

/// Budgets: `--bits 4.25`, `--size 700MB`, `--ratio 0.25`; or one grid everywhere: `--grid q4_k`, `--grid int3:128`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity compress                                   the embedded model at 4.5 bits a weight, with a report
  brevity compress MODEL --bits 4.25 -o out.gguf     4.25 bits a weight, each tensor's type chosen for the least loss
  brevity compress MODEL --size 700MB                at most 700,000,000 bytes of file (MiB = 2^20)
  brevity compress MODEL --grid q4_k --pure          one GGUF type everywhere
  brevity compress MODEL --grid int3:128 -o out/     3-bit integers, a scale and zero point per 128 weights
  brevity compress MODEL --bits 4 --dry-run          the plan: type, bytes and expected loss of each tensor
  brevity compress MODEL --blocks 2                  a rehearsal on two blocks: what the whole will take
  brevity compress MODEL --method imatrix            faster: no error feedback
  brevity compress MODEL --method bitstack -o any/   one directory, of which any number of megabytes is a model")]
pub struct CompressArgs {
    /// The model to compress (default: the embedded one)
    pub model: Option<String>,
    /// Where to write: a .gguf file, or a directory for integer grids
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Budget: bits per weight over all tensors, scales and everything counted
    #[arg(allow_negative_numbers = true, long, value_name = "BITS", group = "goal")]
    pub bits: Option<f64>,
    /// Budget: bytes of the whole file, never exceeded (700MB = 700·10^6, 700MiB = 700·2^20)
    #[arg(allow_hyphen_values = true, long, value_name = "BYTES", group = "goal")]
    pub size: Option<String>,
    /// Budget: share of the original's bytes
    #[arg(allow_negative_numbers = true, long, value_name = "SHARE", group = "goal")]
    pub ratio: Option<f64>,
    /// Budget: bits of divergence a token, measured on the report's text; the smallest file that loses no more
    #[arg(allow_negative_numbers = true, long, value_name = "BITS", group = "goal")]
    pub max_kld: Option<f64>,
    /// One grid everywhere: int2..int8 with an optional group size (int4:128), or a GGUF type (q4_k, iq4_nl, ...)
    #[arg(long, value_name = "GRID", group = "goal")]
    pub grid: Option<String>,
    /// The method (`brevity methods` lists them), behind any folds: gptq, awq, rotation+gptq (default: gptq; imatrix with --imatrix)
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Format: gguf, gptq, awq, compressed-tensors or parts (default: gguf; for integer grids gptq where it holds them, or parts)
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Show the plan and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Rehearse on the first N blocks: nothing is written; says the time and memory that the whole model will take
    #[arg(long, value_name = "N", conflicts_with = "dry_run")]
    pub blocks: Option<usize>,
    /// Peak resident bytes to keep below; refused, with the least that is possible, when that cannot be
    #[arg(allow_hyphen_values = true, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// A type for the tensors whose GGUF name matches (repeatable; the first match wins)
    #[arg(long, value_name = "REGEX=TYPE")]
    pub tensor_type: Vec<String>,
    /// Type of the head
    #[arg(long, value_name = "TYPE")]
    pub output_tensor_type: Option<String>,
    /// Type of the token embedding
    #[arg(long, value_name = "TYPE")]
    pub token_embedding_type: Option<String>,
    /// The same type for embedding and head as for all other tensors
    #[arg(long)]
    pub pure: bool,
    /// Integer grids: quantise embedding and head too
    #[arg(long)]
    pub quantize_embedding: bool,
    /// Take a source that is quantised already: it is dequantised and becomes the reference
    #[arg(long)]
    pub allow_requantize: bool,
    /// Text that calibrates: the choice of types, and methods that look at inputs. A file, JSON lines (.jsonl: the "text" of each),
    /// or a directory (default: the embedded text)
    #[arg(long, value_name = "FILE|DIR")]
    pub calibration: Option<PathBuf>,
    /// How a budget is shared out, on runs of the model: lagrange (the knapsack, corrected), evopress (evolution: slower), or none
    /// (the knapsack on expected losses alone)
    #[arg(long, default_value = "lagrange")]
    pub allocate: AllocateArg,
    /// Folder of the database of levels, made if it is not there and used again (default: a temporary one)
    #[arg(long, value_name = "DIR")]
    pub levels: Option<PathBuf>,
    /// An importance matrix in place of calibration: a file of `brevity imatrix` or llama-imatrix
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Windows of 512 tokens of it, for methods that look at the inputs of each matrix
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_WINDOWS)]
    pub calibration_windows: usize,
    /// Text for the report (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Windows of text that the report measures
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub chunks: usize,
    /// Write and stop: no measurement of the loss
    #[arg(long)]
    pub no_eval: bool,
    /// How activations meet integer weights in the report: int8 or f32 (no noise of their own)
    #[arg(long, default_value = "f32")]
    pub activations: ActivationArg,
    /// Write the report as HTML (with pictures)
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Overwrite the output
    #[arg(short, long)]
    pub force: bool,
}

impl CompressArgs {
    /// Whether a budget or a grid is named.
    pub fn has_goal(&self) -> bool {
        self.bits.is_some()
            || self.size.is_some()
            || self.ratio.is_some()
            || self.max_kld.is_some()
            || self.grid.is_some()
    }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateArg {
    Lagrange,
    Evopress,
    None,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationArg {
    Int8,
    F32,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreArg {
    /// Every token but the first of a window
    All,
    /// The second half of each window, as llama.cpp's perplexity tool counts
    SecondHalf,
}

/// Perplexity, bits per byte, information capacity; with --against also the divergence in bits; with --tasks accuracy.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity eval                                             the embedded model on the embedded text
  brevity eval out.gguf --against MODEL                    what compression cost, in bits a token
  brevity eval MODEL --text wiki.txt --window 512 --chunks 40 --score second-half
  brevity eval MODEL --cache int4 --window 4096 --score second-half     what a smaller KV cache costs
  brevity eval MODEL --tasks arc_easy,piqa --tasks-dir DIR")]
pub struct EvalArgs {
    /// The model to measure (default: the embedded one)
    pub model: Option<String>,
    /// The original, to measure the divergence from
    #[arg(long, value_name = "MODEL")]
    pub against: Option<String>,
    /// Text to measure on (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Tokens in a window (default: 512, or the model's context where that is shorter)
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,
    /// At most so many windows (default: the whole text)
    #[arg(long, value_name = "N")]
    pub chunks: Option<usize>,
    /// Which tokens of a window count
    #[arg(long, default_value = "all")]
    pub score: ScoreArg,
    /// Multiple-choice tasks: names in --tasks-dir, or .jsonl files
    #[arg(long, value_name = "TASK,...", value_delimiter = ',')]
    pub tasks: Vec<String>,
    /// Where the tasks' files lie
    #[arg(long, value_name = "DIR")]
    pub tasks_dir: Option<PathBuf>,
    /// At most so many questions of each task
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// How activations meet integer weights: int8, or f32 (no noise of their own)
    #[arg(long, default_value = "int8")]
    pub activations: ActivationArg,
    /// Keep the reference's predictions in this file, or use them if it is there
    #[arg(long, value_name = "FILE")]
    pub reference_cache: Option<PathBuf>,
    /// Of a model in blocks (--method bitstack), only so many bytes: 30MB, 500MiB
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Run through this cache of keys and values; the reference keeps the full cache in f32. With --score second-half the first
    /// half of a window is the prompt
    #[arg(long, value_name = "SPEC")]
    pub cache: Option<String>,
    /// The most bytes that the cache may take (64MB), or a share of f16's (25%): what each head's keys and values lose is measured,
    /// and each gets a precision of its own. With a selection in --cache it is that of what stays
    #[arg(long, value_name = "SIZE")]
    pub cache_budget: Option<String>,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity run -p \"Once upon a time\"
  brevity run MODEL -p \"def fib(n):\" -n 64 --temperature 0
  brevity run MODEL --chat
  brevity run MODEL -p @long.txt --cache int4
  brevity run MODEL -p @long.txt --cache \"snapkv:budget=512 + int4\"
  brevity run any/ --size 30MB -p \"Once\"      30 MB of a model that compress --method bitstack wrote")]
pub struct RunArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// Of a model in blocks (--method bitstack), only so many bytes: 30MB, 500MiB
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// The text to go on from; @FILE reads a file, - standard input
    #[arg(short, long)]
    pub prompt: Option<String>,
    /// Talk turn by turn (the model's own template, or a plain one)
    #[arg(long)]
    pub chat: bool,
    /// What the system says first in a chat
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Tokens to generate at most
    #[arg(short, long, default_value_t = 128)]
    pub n: usize,
    /// 0 picks the likeliest token always
    #[arg(allow_negative_numbers = true, long, default_value_t = 0.8)]
    pub temperature: f32,
    /// Keep the K likeliest tokens (0: all)
    #[arg(long, default_value_t = 40)]
    pub top_k: usize,
    /// Keep the likeliest tokens up to this probability together
    #[arg(allow_negative_numbers = true, long, default_value_t = 0.95)]
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest
    #[arg(allow_negative_numbers = true, long, default_value_t = 0.05)]
    pub min_p: f32,
    /// Divide the logits of tokens seen lately (1: off)
    #[arg(allow_negative_numbers = true, long, default_value_t = 1.0)]
    pub repetition_penalty: f32,
    /// The same seed gives the same text on every machine
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Context in tokens (default: the model's)
    #[arg(long)]
    pub ctx: Option<usize>,
    /// Stop at this text (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Add no beginning-of-sequence token
    #[arg(long)]
    pub no_bos: bool,
    /// How activations meet integer weights: int8 (fast) or f32
    #[arg(long, default_value = "int8")]
    pub activations: ActivationArg,
    /// How keys and values are kept: a store (f32, f16, int8, int4, kivi, ...), k:int8,v:int4, or with a selection before it
    /// (snapkv:budget=512 + int4); `brevity methods --room cache` lists them
    #[arg(long, value_name = "SPEC", default_value = "f16")]
    pub cache: String,
    /// The most bytes that the cache may take (64MB), or a share of f16's (25%): what each head's keys and values lose is measured,
    /// and each gets a precision of its own. With a selection in --cache it is that of what stays
    #[arg(long, value_name = "SIZE")]
    pub cache_budget: Option<String>,
    /// Go on from a context that `brevity cache save` wrote: the prompt follows its text
    #[arg(long, value_name = "FILE", conflicts_with = "chat")]
    pub cache_load: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum CacheCommand {
    /// Read a text once, and write what the model remembers of it
    Save(CacheSaveArgs),
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity cache save MODEL -p @doc.txt -o doc.kv --max-loss 0.05
  brevity run MODEL --cache-load doc.kv -p \"In short:\"")]
pub struct CacheSaveArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// The text to remember; @FILE reads a file, - standard input
    #[arg(short, long)]
    pub prompt: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Bits of divergence a token that the text's own end may lose, measured before the file is written
    #[arg(allow_negative_numbers = true, long, value_name = "BITS", default_value_t = 0.05)]
    pub max_loss: f64,
    /// How keys and values are coded: kvtc or cachegen
    #[arg(long, default_value = "kvtc")]
    pub codec: String,
    /// Add no beginning-of-sequence token
    #[arg(long)]
    pub no_bos: bool,
    /// How activations meet integer weights: int8 (fast) or f32
    #[arg(long, default_value = "int8")]
    pub activations: ActivationArg,
    /// Overwrite the output
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// Every tensor, not a summary by type
    #[arg(long)]
    pub tensors: bool,
    /// Every metadata key
    #[arg(long)]
    pub metadata: bool,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity imatrix MODEL --calibration text.txt -o model.imatrix.gguf
  brevity compress MODEL --imatrix model.imatrix.gguf --size 700MB
  brevity imatrix MODEL -o model.dat                     the layout of older programs")]
pub struct ImatrixArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// The text (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// What to write: GGUF, or the older layout where the name ends in .dat
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Tokens in a window
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub window: usize,
    /// At most so many windows (default: the whole text)
    #[arg(long, value_name = "N")]
    pub chunks: Option<usize>,
    /// The head's inputs too
    #[arg(long)]
    pub process_output: bool,
    /// Overwrite the output
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity convert MODEL out.gguf --type bf16     a Hugging Face directory to GGUF
  brevity convert stories15M.bin stories.gguf    llama2.c to GGUF, as it is
  brevity convert model.gguf out/ --type f16     GGUF to a Hugging Face directory")]
pub struct ConvertArgs {
    /// What to read
    pub input: String,
    /// What to write: a .gguf file or a directory
    pub output: PathBuf,
    /// Number type: f32, f16, bf16 (default: as it is)
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: Option<String>,
    /// Overwrite the output
    #[arg(short, long)]
    pub force: bool,
}

/// Memory that archives may take, unless the user says otherwise.
pub const ARCHIVE_MEMORY: &str = "3GiB";

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Levels: 1 and 2 find repeated strings (fast), 3 sorts blocks, 4 to 7 mix predictions of contexts (small); 5 is the default.

Examples:
  brevity pack book.txt                      book.txt.brv
  brevity pack notes/ -o notes.brv -4        a directory, faster
  tar c notes | brevity pack - > notes.brv   a stream")]
pub struct PackArgs {
    /// Files and directories; - is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The archive; - is standard output (default: NAME.brv)
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The level: 1 to 9
    #[arg(short, long, value_name = "N", default_value_t = brevity_bytes::level::DEFAULT)]
    pub level: u8,
    #[command(flatten)]
    pub levels: LevelFlags,
    /// Largest block: less memory, more parts that can be read alone, more bytes (default: the level's)
    #[arg(long, value_name = "SIZE")]
    pub block: Option<String>,
    /// A file, or a directory of the same layout, to store differences from; unpacking needs it again
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// A language model that predicts text: nano, or what run takes; unpacking needs the same one again
    #[arg(long, value_name = "MODEL", conflicts_with = "base")]
    pub model: Option<String>,
    /// With --model: byte by byte beside the byte engine, smaller and slower than token by token
    #[arg(long, requires = "model")]
    pub exact_bytes: bool,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
    /// Overwrite the archive
    #[arg(short, long)]
    pub force: bool,
}

/// `-1` for `--level 1`, and so on.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub struct LevelFlags {
    #[arg(short = '1', conflicts_with = "level", help = "The fastest")]
    pub one: bool,
    #[arg(short = '2', conflicts_with = "level", help = "Fast")]
    pub two: bool,
    #[arg(short = '3', conflicts_with = "level", help = "Block sorting")]
    pub three: bool,
    #[arg(short = '4', conflicts_with = "level", help = "Context mixing in less memory")]
    pub four: bool,
    #[arg(short = '5', conflicts_with = "level", help = "Context mixing (default)")]
    pub five: bool,
    #[arg(short = '6', conflicts_with = "level", help = "Four times the contexts")]
    pub six: bool,
    #[arg(short = '7', conflicts_with = "level", help = "The same in one lane")]
    pub seven: bool,
    #[arg(short = '8', conflicts_with = "level", help = "With a network that learns on the way")]
    pub eight: bool,
    #[arg(short = '9', conflicts_with = "level", help = "The smallest, slowest")]
    pub nine: bool,
}

impl PackArgs {
    /// The level, however it was said.
    pub fn level(&self) -> u8 {
        let flags = &self.levels;
        let low = [flags.one, flags.two, flags.three, flags.four, flags.five];
        let high = [flags.six, flags.seven, flags.eight, flags.nine];
        low.iter().chain(&high).position(|&flag| flag).map_or(self.level, |at| at as u8 + 1)
    }
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity unpack notes.brv -C here/           all of it
  brevity unpack notes.brv 2024/ plan.txt     a directory and a file of it
  brevity unpack book.txt.brv -o - | less     one file to standard output")]
pub struct UnpackArgs {
    /// The archive; - is standard input
    pub archive: PathBuf,
    /// What to unpack: files, or directories with all below them (default: everything)
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// Where to; it is made
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Write the one file that is unpacked here instead; - is standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "directory")]
    pub output: Option<PathBuf>,
    /// Save what is whole where something is damaged; what lacks parts gets zeros in their place and the name NAME.damaged
    #[arg(long)]
    pub keep_going: bool,
    /// What a difference was made from: the file, or the directory of the same layout
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// The language model that it was packed with (default: the embedded one)
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
    /// Overwrite files that exist
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The archive; - is standard input
    pub archive: PathBuf,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
}

#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// The archive; - is standard input
    pub archive: PathBuf,
    /// What a difference was made from: the file, or the directory of the same layout
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// The language model that it was packed with (default: the embedded one)
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
}

#[derive(Args, Clone, Debug)]
pub struct CatArgs {
    /// The archive; - is standard input
    pub archive: PathBuf,
    /// The file
    #[arg(value_name = "PATH")]
    pub path: String,
    /// Bytes of it, from the first to before the last: 100..200, ..200, 100..
    #[arg(long, value_name = "A..B", default_value = "..")]
    pub range: String,
    /// What a difference was made from: the file, or the directory of the same layout
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// The language model that it was packed with (default: the embedded one)
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity diff step-1000.safetensors step-2000.safetensors -o step-2000.brv
  brevity patch step-1000.safetensors step-2000.brv -o step-2000.safetensors")]
pub struct DiffArgs {
    /// The old file or directory
    pub old: PathBuf,
    /// The new one
    pub new: PathBuf,
    /// Where to write what changed (default: NEW.brv)
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The level for what is not a change: 1 to 9
    #[arg(short, long, value_name = "N", default_value_t = brevity_bytes::level::DEFAULT)]
    pub level: u8,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
    /// Overwrite the output
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct PatchArgs {
    /// The old file or directory
    pub old: PathBuf,
    /// What `diff` wrote
    pub patch: PathBuf,
    /// The new file or directory to make
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
    /// Overwrite the output
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct MethodsArgs {
    /// One room of the house only (weights, cache)
    #[arg(long)]
    pub room: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
pub enum BenchCommand {
    /// Tokens per second of reading a prompt and of generating, and the share of the memory's bandwidth reached
    Speed(BenchSpeedArgs),
    /// Every method on every grid: bits per weight against bits of loss, as a table and a picture
    Weights(BenchWeightsArgs),
    /// Ways of keeping keys and values: bytes a token against bits of loss, as a table and a picture
    Cache(BenchCacheArgs),
    /// How well a model's own prediction foretells the next token's keys and values
    Residual(BenchResidualArgs),
    /// Our files beside llama-quantize's of the same size, both measured by llama.cpp
    Beside(BenchBesideArgs),
    /// Every level of archives, and the compressors that this machine has: bits a byte against speed
    Bytes(BenchBytesArgs),
}

#[derive(Args, Clone, Debug)]
pub struct BenchBytesArgs {
    /// Files, or directories of them (default: the embedded text); each is packed alone
    #[arg(value_name = "PATH")]
    pub corpus: Vec<PathBuf>,
    /// Round the F32 tensors of safetensors files to BF16 first
    #[arg(long)]
    pub bf16: bool,
    /// Levels to measure (default: all)
    #[arg(long, value_delimiter = ',')]
    pub levels: Vec<u8>,
    /// Brevity alone
    #[arg(long)]
    pub no_peers: bool,
    /// Memory to stay below
    #[arg(long, value_name = "SIZE", default_value = ARCHIVE_MEMORY)]
    pub memory: String,
    /// A Markdown page in which this bench's section is written or replaced; its picture (SVG) lies beside it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct BenchSpeedArgs {
    /// The model (default: the embedded one), or several for a table with a row each
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,
    /// Tokens of prompt
    #[arg(long, default_value_t = 512)]
    pub prompt: usize,
    /// Tokens to generate
    #[arg(long, default_value_t = 64)]
    pub generate: usize,
    /// llama.cpp's llama-bench, to be run on the same file right after, with the same settings (GGUF only)
    #[arg(long, value_name = "PROGRAM")]
    pub peer: Option<PathBuf>,
    /// A Markdown page in which this bench's section is written or replaced
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Repetitions; the median is reported
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
    /// How activations meet integer weights: int8 or f32
    #[arg(long, default_value = "int8")]
    pub activations: ActivationArg,
    /// How keys and values are kept (`brevity methods --room cache`)
    #[arg(long, value_name = "SPEC", default_value = "f16")]
    pub cache: String,
    /// The most bytes that the cache may take (64MB), or a share of f16's (25%): what each head's keys and values lose is measured,
    /// and each gets a precision of its own. With a selection in --cache it is that of what stays
    #[arg(long, value_name = "SIZE")]
    pub cache_budget: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct BenchWeightsArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// Methods to measure, behind any folds (default: each method, awq and rotation+gptq)
    #[arg(long, value_delimiter = ',')]
    pub methods: Vec<String>,
    /// Windows of 512 tokens of calibration text, for methods that look at the inputs of each matrix
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_WINDOWS)]
    pub calibration_windows: usize,
    /// Grids to measure (default: all)
    #[arg(long, value_delimiter = ',')]
    pub grids: Vec<String>,
    /// Budgets in bits per weight to measure
    #[arg(long, value_delimiter = ',', default_values_t = [3.0, 3.5, 4.0, 4.25, 4.5, 5.0, 6.0, 8.0])]
    pub bits: Vec<f64>,
    /// Windows of text
    #[arg(long, default_value_t = 16)]
    pub chunks: usize,
    /// Text to measure on (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Folder of llama.cpp's programs, whose own types are measured too
    #[arg(long, value_name = "DIR")]
    pub peer: Option<PathBuf>,
    /// A Markdown page in which this bench's section is written or replaced; its picture (SVG) lies beside it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct BenchCacheArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// A cache to measure, as --cache of run takes it; "mixed within 25%" or "h2o:budget=50% within 1MB" is one with a budget, as
    /// --cache-budget takes it (repeatable; default: stores, selections and both together)
    #[arg(long = "spec", value_name = "SPEC")]
    pub specs: Vec<String>,
    /// Tokens in a window; the first half is the prompt, the second is measured
    #[arg(long, default_value_t = 1024)]
    pub window: usize,
    /// Windows of text
    #[arg(long, default_value_t = 2)]
    pub chunks: usize,
    /// Tokens to generate at the end of a window, for the speed
    #[arg(long, default_value_t = 16)]
    pub generate: usize,
    /// A set of questions about long contexts: JSON lines of key-value retrieval, LongChat or QMSum, .gz too (repeatable)
    #[arg(long = "set", value_name = "FILE")]
    pub sets: Vec<PathBuf>,
    /// Questions of each of four kinds about facts hidden in the text, and of each set (0: none)
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub questions: usize,
    /// Text to measure on (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// How activations meet integer weights: int8, or f32 (no noise of their own)
    #[arg(long, default_value = "f32")]
    pub activations: ActivationArg,
    /// A Markdown page in which this bench's section is written or replaced; its picture (SVG) lies beside it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct BenchResidualArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// Tokens that are foretold, the last of the window
    #[arg(long, default_value_t = 64)]
    pub positions: usize,
    /// Likely tokens of which the prediction is the mean
    #[arg(long, default_value_t = 16)]
    pub candidates: usize,
    /// Tokens of text
    #[arg(long, default_value_t = 256)]
    pub window: usize,
    /// Text to measure on (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// How activations meet integer weights: int8, or f32 (no noise of their own)
    #[arg(long, default_value = "f32")]
    pub activations: ActivationArg,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  brevity bench beside --peer llama.cpp/build/bin
  brevity bench beside stories15M.bin --peer llama.cpp/build/bin --types Q4_0,IQ4_NL --window 256")]
pub struct BenchBesideArgs {
    /// The model (default: the embedded one)
    pub model: Option<String>,
    /// Folder of llama.cpp's programs: llama-quantize, llama-imatrix, llama-perplexity
    #[arg(long, value_name = "DIR")]
    pub peer: PathBuf,
    /// Its types (default: Q2_K, Q3_K_M, Q4_K_M and Q5_K_M; Q4_0, IQ4_NL and Q5_0 where rows are no multiple of 256)
    #[arg(long, value_delimiter = ',')]
    pub types: Vec<String>,
    /// Our method
    #[arg(long, default_value = "gptq")]
    pub method: String,
    /// Share the bytes out by evolution
    #[arg(long)]
    pub evopress: bool,
    /// Text that calibrates both (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Windows of 512 tokens of it that our method looks at; llama-imatrix reads the whole text
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_WINDOWS)]
    pub calibration_windows: usize,
    /// Text to measure on (default: the embedded one)
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Tokens in a window of measuring
    #[arg(long, default_value_t = 512)]
    pub window: usize,
    /// Windows of text
    #[arg(long, default_value_t = 40)]
    pub chunks: usize,
    /// A Markdown page in which this bench's section is written or replaced
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
