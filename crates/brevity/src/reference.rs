//! The original's predictions, kept in a small file between measurements, so that it need not run for every candidate.

use crate::evaluate::{Comparison, Finished, Text, each_chunk, in_parallel};
use crate::identity;
use anyhow::{Context, Result};
use brevity_formats::hash::TreeHasher;
use brevity_kernels::Matrix;
use brevity_measure::divergence::{Divergence, token_bits};
use brevity_measure::perplexity::Perplexity;
use brevity_measure::reference::{Identity, Reference, Settings, Writer, encode};
use brevity_model::ModelSource;
use brevity_model::tokenizer::Tokenizer;
use brevity_parts::Activation;
use std::path::Path;

/// What a file belongs to: the original's weights as stored, how it was run, and the tokens that count.
///
/// # Errors
/// If the weights cannot be read.
pub fn identity(original: &ModelSource, text: &Text, window: usize, activation: Activation) -> Result<Identity> {
    let mut model = TreeHasher::new();
    model.update(format!("{:?} {activation:?}", original.config()).as_bytes());
    identity::weights(original, &mut model)?;
    let mut hash = blake3::Hasher::new();
    for (tokens, scored) in text.windows.iter().zip(&text.scored) {
        hash.update(&(scored.start as u64).to_le_bytes());
        for token in tokens {
            hash.update(&token.to_le_bytes());
        }
    }
    Ok(Identity {
        model: model.finalize().into(),
        text: hash.finalize().into(),
        window: window as u32,
        vocabulary: original.config().vocab as u32,
    })
}

/// Writes the file.
///
/// # Errors
/// If it cannot be written, the logits hold NaN, or the user stopped.
pub fn write(path: &Path, identity: &Identity, original: &Finished, text: &Text) -> Result<()> {
    let mut writer = Writer::create(path, identity)?;
    let (mut logits, settings) = (Matrix::default(), Settings::default());
    each_chunk(text, |window, rows| {
        original.logits(window, rows.clone(), &mut logits);
        let encoded = in_parallel(rows.len(), |index| {
            let next = text.next(window, &rows, index);
            encode(window as u32, (rows.start + index) as u32, logits.row(index), Some(next), &settings)
        })?;
        Ok(encoded.iter().try_for_each(|row| writer.push(row))?)
    })?;
    writer.finish()?;
    Ok(())
}

/// As [`crate::evaluate::compare`], against the file.
///
/// # Errors
/// If a position is missing from the file, the logits hold NaN, or the user stopped.
pub fn compare(reference: &Reference, model: &Finished, text: &Text, tokenizer: &Tokenizer) -> Result<Comparison> {
    let mut all = Comparison { before: Perplexity::new(), after: Perplexity::new(), divergence: Divergence::new() };
    let mut logits = Matrix::default();
    each_chunk(text, |window, rows| {
        model.logits(window, rows.clone(), &mut logits);
        let measured = in_parallel(rows.len(), |index| {
            let (at, next) = ((rows.start + index) as u32, text.next(window, &rows, index));
            let row = reference.compare(window as u32, at, logits.row(index))?;
            Ok((row, reference.target_bits(window as u32, at), token_bits(logits.row(index), next)?))
        })?;
        for (index, (row, before, after)) in measured.into_iter().enumerate() {
            let (window, position) = (window as u32, (rows.start + index) as u32);
            let bytes = tokenizer.token_bytes(text.next(window as usize, &rows, index)).len();
            let missing = || format!("the reference cache lacks position {position} of window {window}");
            all.divergence.add(window, position, row.with_context(missing)?);
            all.before.add(window, position, before.with_context(missing)?, bytes)?;
            all.after.add(window, position, after, bytes)?;
        }
        Ok(())
    })?;
    Ok(all)
}
