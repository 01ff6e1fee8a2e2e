//! llama.cpp's own quantisation: its importance matrix, its files, and its measurement of any file's divergence.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its programs.
pub struct Programs {
    quantize: PathBuf,
    imatrix: PathBuf,
    perplexity: PathBuf,
    threads: String,
}

/// A divergence as llama-perplexity measures it, in bits a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    pub mean: f64,
    pub error: f64,
}

/// An original and what its files are made and measured with.
pub struct Bench<'a> {
    programs: &'a Programs,
    original: PathBuf,
    imatrix: PathBuf,
    logits: PathBuf,
    window: String,
}

impl Programs {
    /// In a folder.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn in_folder(folder: &Path, threads: usize) -> Result<Self> {
        let program = |name: &str| {
            let path = folder.join(name);
            if !path.is_file() {
                bail!("{}: no such program\n  next: name the folder in which llama.cpp's programs are", path.display());
            }
            Ok(path)
        };
        Ok(Self {
            quantize: program("llama-quantize")?,
            imatrix: program("llama-imatrix")?,
            perplexity: program("llama-perplexity")?,
            threads: threads.to_string(),
        })
    }

    fn run<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> Result<String> {
        let name = program.display();
        let output = Command::new(program).args(args).output().with_context(|| format!("starting {name}"))?;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        if !output.status.success() {
            bail!("{name} failed: {}", text.lines().rfind(|line| !line.is_empty()).unwrap_or("no message"));
        }
        Ok(text)
    }
}

impl<'a> Bench<'a> {
    /// Sums up the calibration text with llama-imatrix in `folder`; `original` is a GGUF file of f32.
    ///
    /// # Errors
    /// If the program fails.
    pub fn new(
        programs: &'a Programs,
        original: &Path,
        folder: &Path,
        calibration: &str,
        window: usize,
    ) -> Result<Self> {
        let path = |name: &str| folder.join(name);
        let text = path("calibration.txt");
        std::fs::write(&text, calibration).context("writing the calibration text")?;
        let bench = Self {
            programs,
            original: original.to_path_buf(),
            imatrix: path("imatrix.gguf"),
            logits: path("original.logits"),
            window: window.to_string(),
        };
        let paths = [OsStr::new("-f"), text.as_os_str(), OsStr::new("-o"), bench.imatrix.as_os_str()];
        Programs::run(&programs.imatrix, &[&bench.on(original)[..], &paths].concat())?;
        Ok(bench)
    }

    /// Keeps the original's logits on so many windows of a text.
    ///
    /// # Errors
    /// If the program fails.
    pub fn keep_logits(&self, evaluation: &str, chunks: usize) -> Result<()> {
        let text = self.logits.with_extension("txt");
        std::fs::write(&text, evaluation).context("writing the text to measure on")?;
        let chunks = chunks.to_string();
        let paths = [OsStr::new("-f"), text.as_os_str(), OsStr::new("--kl-divergence-base"), self.logits.as_os_str()];
        let chunks = [OsStr::new("--chunks"), OsStr::new(&chunks)];
        Programs::run(&self.programs.perplexity, &[&self.on(&self.original)[..], &paths, &chunks].concat())?;
        Ok(())
    }

    fn on<'b>(&'b self, model: &'b Path) -> [&'b OsStr; 6] {
        let (threads, window) = (OsStr::new(&self.programs.threads), OsStr::new(&self.window));
        [OsStr::new("-m"), model.as_os_str(), OsStr::new("-t"), threads, OsStr::new("-c"), window]
    }

    /// Writes `output` as one of llama-quantize's types (`Q4_K_M`, ...), with the importance matrix.
    ///
    /// # Errors
    /// If the program fails.
    pub fn quantize(&self, ty: &str, output: &Path) -> Result<()> {
        let paths = [OsStr::new("--imatrix"), self.imatrix.as_os_str(), self.original.as_os_str(), output.as_os_str()];
        let args = [&paths[..], &[OsStr::new(ty), OsStr::new(&self.programs.threads)]].concat();
        Programs::run(&self.programs.quantize, &args)?;
        Ok(())
    }

    /// The divergence of a file from the original, whose logits were kept.
    ///
    /// # Errors
    /// If the program fails or says nothing of it.
    pub fn divergence(&self, file: &Path) -> Result<Divergence> {
        let logits = [OsStr::new("--kl-divergence-base"), self.logits.as_os_str(), OsStr::new("--kl-divergence")];
        let text = Programs::run(&self.programs.perplexity, &[&self.on(file)[..], &logits].concat())?;
        mean_kld(&text).context("llama-perplexity named no mean divergence")
    }
}

/// Reads `Mean KLD: 0.0123 ± 0.0004`, in nats.
fn mean_kld(text: &str) -> Option<Divergence> {
    let line = text.lines().find(|line| line.trim_start().starts_with("Mean") && line.contains("KLD:"))?;
    let (_, numbers) = line.split_once(':')?;
    let (mean, error) = numbers.split_once('±')?;
    let bits = |text: &str| text.trim().parse::<f64>().ok().map(|nats| nats / std::f64::consts::LN_2);
    Some(Divergence { mean: bits(mean)?, error: bits(error)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_read_in_bits() {
        let text = "Mean PPL(Q): 1.0 ± 0.1\nMean    KLD:   0.693147 ±   0.001386\nMaximum KLD:   4.0\n";
        let found = mean_kld(text).unwrap();
        assert!((found.mean - 1.0).abs() < 1e-5 && (found.error - 0.002).abs() < 1e-5);
        assert_eq!(mean_kld("Maximum KLD: 1.0"), None);
    }

    #[test]
    fn programs_that_are_not_there_are_named() {
        let error = Programs::in_folder(Path::new("/nowhere"), 2).err().unwrap().to_string();
        assert!(error.contains("/nowhere/llama-quantize") && error.contains("next:"), "{error}");
    }
}
