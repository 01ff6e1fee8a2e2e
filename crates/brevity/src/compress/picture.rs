//! Where the bits went: a table of layers and tensors, coloured by bits per weight.

use super::plan::Plan;
use brevity_measure::bits::{bits_per_weight, format_bytes};
use brevity_measure::plot::{Field, HeatMap};

/// One row a layer, one column a kind of tensor; norms and biases are left out.
pub fn heat_map(plan: &Plan) -> HeatMap {
    let matrices = || plan.tensors.iter().filter(|tensor| !tensor.entry.vector && !tensor.entry.role.bias);
    let (mut rows, mut columns): (Vec<Option<usize>>, Vec<&str>) = (Vec::new(), Vec::new());
    for tensor in matrices() {
        let (layer, kind) = (tensor.entry.role.layer, tensor.entry.role.kind.gguf_stem());
        if !rows.contains(&layer) {
            rows.push(layer);
        }
        if !columns.contains(&kind) {
            columns.push(kind);
        }
    }
    // What is read first or last stands first.
    rows.sort_unstable();
    let name = |layer: &Option<usize>| layer.map_or_else(|| "outside".to_string(), |layer| format!("layer {layer}"));
    let labels = rows.iter().map(name).collect();
    let names = columns.iter().map(|kind| (*kind).to_string()).collect();
    let mut map = HeatMap::new("Bits per weight by layer and tensor", "bits per weight", labels, names);
    for tensor in matrices() {
        let (layer, kind) = (tensor.entry.role.layer, tensor.entry.role.kind.gguf_stem());
        let weights = (tensor.entry.rows * tensor.entry.cols) as u64;
        let bits = bits_per_weight(tensor.bytes, weights);
        let share = 100.0 * tensor.bytes as f64 / plan.tensor_bytes.max(1) as f64;
        let hint = format!(
            "{}: {}, {bits:.3} bits a weight, {} ({share:.1} % of all)",
            tensor.entry.name,
            tensor.level,
            format_bytes(tensor.bytes)
        );
        let place = (rows.iter().position(|row| *row == layer), columns.iter().position(|column| *column == kind));
        if let (Some(row), Some(column)) = place {
            map.add(Field { row, column, value: bits, note: tensor.level.to_string(), hint });
        }
    }
    map
}
