//! What folds are worth: divergence of chains of methods from the original, in bits a token.
//!
//! ```text
//! cargo run --release -p brevity-weights --example folds -- MODEL CALIBRATION EVALUATION LEVELS CHAINS
//! cargo run --release -p brevity-weights --example folds -- models/nano crates/brevity/texts/calibration.txt \
//!     crates/brevity/texts/evaluation.txt int3:128,int4:128 rtn,awq,gptq,rotation+gptq
//! ```
//!
//! Linears are stored at each level; embedding and head stay as they are. Statistics are those of the folded model before
//! rounding, on 32 windows of 256 tokens; the divergence is the mean over 16 windows, with the standard error of window means.

#[path = "../tests/support/hessians.rs"]
mod hessians;

use brevity_kernels::Matrix;
use brevity_measure::divergence;
use brevity_model::source::WeightSource;
use brevity_model::{ModelSource, Result as ModelResult, Role, stream};
use brevity_parts::{CompressedMatrix, StoredMatrix};
use brevity_weights::fold::FoldJob;
use brevity_weights::registry::{Chain, chain};
use brevity_weights::{Level, Outcome};
use hessians::{EXACT, Hessians};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

const WINDOW: usize = 256;

/// A model with some matrices stored.
struct Stored<'a> {
    source: &'a ModelSource,
    matrices: HashMap<Role, StoredMatrix>,
}

impl WeightSource for Stored<'_> {
    fn matrices(&self, roles: &[Role]) -> ModelResult<Vec<CompressedMatrix>> {
        let one = |role: &Role| match self.matrices.get(role) {
            Some(stored) => CompressedMatrix::pack(stored.clone())
                .map_err(|source| brevity_model::Error::Part { tensor: role.gguf_name(), source: Box::new(source) }),
            None => self.source.load_matrix(self.source.require(*role)?),
        };
        roles.iter().map(one).collect()
    }

    fn vector(&self, role: Role) -> ModelResult<Vec<f32>> {
        self.source.vector(role)
    }
}

fn is_linear(role: Role) -> bool {
    role.layer.is_some() && role.kind.is_linear() && !role.bias
}

fn windows(source: &ModelSource, path: &str, count: usize) -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
    let tokenizer = source.tokenizer()?;
    let tokens = tokenizer.encode(&std::fs::read_to_string(path)?, false, false);
    let head: Vec<u32> = tokenizer.bos().into_iter().collect();
    let cut = tokens.chunks_exact(WINDOW - head.len()).take(count).map(|part| [&head[..], part].concat());
    Ok(cut.collect())
}

fn logits(source: &ModelSource, weights: &dyn WeightSource, windows: &[Vec<u32>]) -> ModelResult<Vec<Vec<f32>>> {
    let mut all = vec![Vec::new(); windows.len()];
    stream::run(source.config(), weights, windows, EXACT, None, &mut |window, _, rows| {
        (0..rows.rows()).for_each(|row| all[window].extend_from_slice(rows.row(row)));
        Ok(())
    })?;
    Ok(all)
}

/// The folded model, its linears as the chain stores them, and the bits of a weight in these.
fn compress<'a>(
    chain: &Chain,
    level: Level,
    source: &'a mut Arc<ModelSource>,
    calibration: &[Vec<u32>],
) -> Result<(Stored<'a>, f64), Box<dyn Error>> {
    for fold in &chain.folds {
        fold.check(source.config())?;
        let hessians = Hessians::collect(source.config(), &**source, calibration);
        let outcome = fold.fold(&FoldJob {
            source,
            layers: 0..source.config().layers(),
            statistics: &|role| hessians.statistics(role),
            level: &|role| is_linear(role).then_some(level),
            nearest: chain.rounds_to_nearest(),
        })?;
        *source = Arc::new(ModelSource::folded(Arc::clone(source), outcome.folds)?);
    }
    let hessians = Hessians::collect(source.config(), &**source, calibration);
    let (mut matrices, mut bits, mut weights) = (HashMap::new(), 0, 0);
    for entry in source.tensors().iter().filter(|entry| is_linear(entry.role)) {
        let w = Matrix::from_vec(entry.rows, entry.cols, source.read_rows_f32(entry, 0..entry.rows)?);
        let statistics = hessians.statistics(entry.role);
        let Outcome { stored, .. } = chain.method.compress_counted(&w, &statistics, level.fit(entry.cols))?;
        bits += stored.bits();
        weights += w.data().len();
        matrices.insert(entry.role, stored);
    }
    Ok((Stored { source, matrices }, bits as f64 / weights.max(1) as f64))
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, calibration, evaluation, levels, chains] = args.as_slice() else {
        return Err("MODEL CALIBRATION EVALUATION LEVELS CHAINS".into());
    };
    let original = Arc::new(ModelSource::open(model)?);
    let calibration = windows(&original, calibration, 32)?;
    let evaluation = windows(&original, evaluation, 16)?;
    let reference = logits(&original, &*original, &evaluation)?;
    println!("| level | method | bits per weight | KLD, bits a token |\n|---|---|---|---|");
    for level in levels.split(',') {
        for name in chains.split(',') {
            let (level, chain) = (Level::parse(level)?, chain(name)?);
            let mut source = Arc::clone(&original);
            let (stored, bits) = compress(&chain, level, &mut source, &calibration)?;
            let found = logits(stored.source, &stored, &evaluation)?;
            let mut means = Vec::new();
            for (a, b) in reference.iter().zip(&found) {
                let rows = a.chunks_exact(original.config().vocab).zip(b.chunks_exact(original.config().vocab));
                let klds = rows.map(|(a, b)| Ok(divergence::compare(a, b, None)?.kld));
                let klds = klds.collect::<Result<Vec<f64>, Box<dyn Error>>>()?;
                means.push(klds.iter().sum::<f64>() / klds.len().max(1) as f64);
            }
            let count = means.len() as f64;
            let mean = means.iter().sum::<f64>() / count;
            let variance = means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
            println!("| {level} | {} | {bits:.3} | {mean:.4} ± {:.4} |", chain.name(), (variance / count).sqrt());
        }
    }
    Ok(())
}
