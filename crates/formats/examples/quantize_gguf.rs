//! Rounds the matrices of the blocks of a GGUF model to one type and copies the rest, as `llama-quantize --pure` does with
//! `--token-embedding-type f16 --output-tensor-type f16`: for comparisons of the block search alone.
//!
//! `cargo run --release -p brevity-formats --example quantize_gguf -- in.gguf q4_k out.gguf [imatrix.gguf]`

use brevity_formats::gguf::{GgufFile, GgufWriter, TensorInfo, TensorPlan};
use brevity_formats::imatrix::Imatrix;
use brevity_formats::{TensorType, blocks};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, input, ty, output, imatrix @ ..] = &arguments[..] else {
        return Err("usage: quantize_gguf IN.gguf TYPE OUT.gguf [IMATRIX]".into());
    };
    let (file, ty) = (GgufFile::open(input)?, TensorType::parse(ty)?);
    let imatrix = imatrix.first().map(Imatrix::open).transpose()?;
    let rounded = |tensor: &TensorInfo| {
        tensor.shape.len() == 2 && tensor.name.starts_with("blk.") && ty.row_bytes(tensor.cols()).is_some()
    };
    let plan: Vec<TensorPlan> = file
        .tensors()
        .iter()
        .map(|tensor| TensorPlan { ty: if rounded(tensor) { ty } else { tensor.ty }, ..TensorPlan::from(tensor) })
        .collect();
    let mut writer = GgufWriter::create(output, file.metadata(), &plan, true)?;
    for tensor in file.tensors() {
        let mut bytes = file.read_all(tensor)?;
        if rounded(tensor) {
            let mut values = vec![0.0; tensor.values() as usize];
            blocks::dequantize(tensor.ty, &bytes, &mut values)?;
            let importance = imatrix.as_ref().map(|i| i.importance(&tensor.name, tensor.cols())).transpose()?;
            bytes = vec![0; ty.row_bytes(values.len()).unwrap_or(0)];
            blocks::quantize(ty, &values, importance.as_deref(), &mut bytes)?;
        }
        writer.write(&tensor.name, &bytes)?;
    }
    writer.finish()?;
    Ok(())
}
