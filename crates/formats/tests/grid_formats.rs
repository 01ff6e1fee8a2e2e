//! GPTQ, AWQ and compressed-tensors tensors against others' code.
//!
//! `tests/golden/grids/<case>.safetensors` holds tensors that Brevity packed, `<case>.f32` the weights that GPTQModel's or
//! compressed-tensors' own unpacking made of them (`oracles/grids.py`). With `BREVITY_BLESS` set the former are written anew;
//! run the script before you commit them.

use brevity_formats::awq::{self, AwqTensors};
use brevity_formats::compressed_tensors::{self, PackedConfig};
use brevity_formats::gptq::{self, GptqConfig, GptqTensors, Version};
use brevity_formats::grid::{self, GridMatrix, Symmetry};
use brevity_formats::safetensors::{SafetensorsWriter, TensorPlan};
use brevity_formats::{Error, TensorType};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/grids").join(name)
}

/// Numbers that look like weights: sums of uniform ones.
fn weights(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| 0.05 * (uniform() + uniform() + uniform())).collect()
}

fn random_grid(rows: usize, cols: usize, bits: u8, group: usize, symmetry: Symmetry) -> GridMatrix {
    grid::quantize(&weights(rows * cols, u64::from(bits) + 7), cols, bits, group, None, symmetry).unwrap()
}

struct Tensor(&'static str, TensorType, Vec<usize>, Vec<u8>);

fn i32s(name: &'static str, shape: [usize; 2], values: &[i32]) -> Tensor {
    Tensor(name, TensorType::I32, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn f16s(name: &'static str, shape: [usize; 2], values: &[u16]) -> Tensor {
    Tensor(name, TensorType::F16, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// The file of a case is what it was when the oracle read it.
fn assert_file(case: &str, config: &serde_json::Value, tensors: &[Tensor]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let plan: Vec<TensorPlan> =
        tensors.iter().map(|t| TensorPlan { name: t.0.into(), shape: t.2.clone(), ty: t.1 }).collect();
    let metadata = [("quantization_config".to_string(), config.to_string())];
    let mut writer = SafetensorsWriter::create(&path, &metadata, &plan, true).unwrap();
    for tensor in tensors {
        writer.write(tensor.0, &tensor.3).unwrap();
    }
    writer.finish().unwrap();
    let file = golden(&format!("{case}.safetensors"));
    if std::env::var_os("BREVITY_BLESS").is_some() {
        fs::create_dir_all(golden("")).unwrap();
        fs::copy(&path, &file).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), fs::read(&file).unwrap(), "{case}");
}

/// The weights are what others made of the file.
fn assert_weights(case: &str, ours: &[f32]) {
    let Ok(theirs) = fs::read(golden(&format!("{case}.f32"))) else {
        assert!(std::env::var_os("BREVITY_BLESS").is_some(), "{case}.f32 is missing: run oracles/grids.py");
        return;
    };
    let theirs: Vec<f32> = theirs.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(ours.len(), theirs.len(), "{case}");
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours.to_bits(), theirs.to_bits(), "{case}: weight {i}: {ours}, theirs {theirs}");
    }
}

fn assert_gptq_file(case: &str, config: &GptqConfig, t: &GptqTensors) {
    let words = |n: usize| (n * usize::from(config.bits)).div_ceil(32);
    let groups = grid::groups_per_row(t.cols, config.group);
    assert_file(
        case,
        &config.to_json(),
        &[
            i32s("qweight", [words(t.cols), t.rows], &t.qweight),
            i32s("qzeros", [groups, words(t.rows)], &t.qzeros),
            f16s("scales", [groups, t.rows], &t.scales),
            Tensor("g_idx", TensorType::I32, vec![t.cols], t.g_idx.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ],
    );
}

#[test]
fn gptq_model_reads_what_we_write() {
    for bits in [2, 3, 4, 8] {
        for (version, name, symmetry) in [
            (Version::V1, "v1", Symmetry::AsymmetricFromOne),
            (Version::V2, "v2", Symmetry::Asymmetric),
            (Version::V1, "sym", Symmetry::Symmetric),
        ] {
            // 96 columns in groups of 64 leave a short group; 0 is the whole row.
            for group in if bits == 4 { vec![32, 64, 0] } else { vec![32] } {
                let case = format!("gptq_{name}_{bits}_{group}");
                let grid = random_grid(32, 96, bits, group, symmetry);
                let tensors = gptq::pack(&grid, version).unwrap();
                let symmetric = symmetry == Symmetry::Symmetric;
                let config = GptqConfig { bits, group, desc_act: false, symmetric, version, lm_head: false };
                assert_gptq_file(&case, &config, &tensors);
                let back = gptq::unpack(&tensors, bits, group, version).unwrap();
                assert_eq!((&back.grid, &back.order), (&grid, &None), "{case}");
                assert_weights(&case, &back.dequantize());
                assert_eq!(GptqConfig::from_json(&config.to_json()).unwrap(), config);
            }
        }
    }
}

#[test]
fn scattered_groups_are_read_as_gptq_model_reads_them() {
    let grid = random_grid(32, 96, 4, 32, Symmetry::AsymmetricFromOne);
    let mut tensors = gptq::pack(&grid, Version::V1).unwrap();
    // 5 and 96 have no common factor, so every group keeps its 32 columns.
    tensors.g_idx = (0..96).map(|col| (col * 5 % 96) / 32).collect();
    let config =
        GptqConfig { bits: 4, group: 32, desc_act: true, symmetric: false, version: Version::V1, lm_head: false };
    assert_gptq_file("gptq_desc_act", &config, &tensors);
    let back = gptq::unpack(&tensors, 4, 32, Version::V1).unwrap();
    assert!(back.order.is_some());
    assert_weights("gptq_desc_act", &back.dequantize());
}

#[test]
fn compressed_tensors_reads_what_we_write() {
    for (bits, group) in [(2, 32), (3, 32), (4, 32), (4, 0), (8, 32), (8, 0)] {
        for symmetric in [false, true] {
            let symmetry = if symmetric { Symmetry::Symmetric } else { Symmetry::Asymmetric };
            // 42 rows do not fill the last word of zero points.
            let (rows, cols) = (42, 96);
            let case = format!("ct_{}_{bits}_{group}", if symmetric { "sym" } else { "asym" });
            let grid = random_grid(rows, cols, bits, group, symmetry);
            let t = compressed_tensors::pack(&grid, symmetric).unwrap();
            let words = |n: usize| (n * usize::from(bits)).div_ceil(32);
            let groups = grid.groups_per_row();
            let shape = t.shape.iter().flat_map(|n| (*n as i64).to_le_bytes()).collect();
            let mut tensors = vec![
                i32s("weight_packed", [rows, words(cols)], &t.weight_packed),
                f16s("weight_scale", [rows, groups], &t.scale_bits()),
                Tensor("weight_shape", TensorType::I64, vec![2], shape),
            ];
            if let Some(zeros) = &t.weight_zero_point {
                tensors.push(i32s("weight_zero_point", [words(rows), groups], zeros));
            }
            let config = PackedConfig { bits, group, symmetric, ignore: vec!["lm_head".into()] };
            assert_file(&case, &config.to_json(), &tensors);
            let back = compressed_tensors::unpack(&t, bits, group).unwrap();
            assert_eq!((&back.grid, &back.order), (&grid, &None), "{case}");
            assert_weights(&case, &back.dequantize());
            assert_eq!(PackedConfig::from_json(&config.to_json()).unwrap(), config);
        }
    }
}

#[test]
fn awq_is_read_as_gptq_model_reads_it() {
    let (rows, cols, group) = (32, 96, 32);
    // Any words are valid.
    let words = |n: usize, seed| weights(n, seed).iter().map(|w| w.to_bits() as i32).collect::<Vec<_>>();
    let scales: Vec<u16> = weights(rows * 3, 3).iter().map(|w| half::f16::from_f32(*w).to_bits()).collect();
    let t = AwqTensors { rows, cols, qweight: words(cols * 4, 1), qzeros: words(12, 2), scales };
    assert_file(
        "awq",
        &serde_json::json!({ "quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm" }),
        &[
            i32s("qweight", [cols, 4], &t.qweight),
            i32s("qzeros", [3, 4], &t.qzeros),
            f16s("scales", [3, rows], &t.scales),
        ],
    );
    let grid = awq::unpack(&t, group).unwrap();
    assert_weights("awq", &grid.dequantize());
    // What is packed is what GPTQModel reads: the words of the golden file.
    assert_eq!(awq::pack(&grid).unwrap(), t);
}

#[test]
fn awq_packs_what_it_can_hold() {
    use brevity_formats::grid::{Symmetry, quantize};
    for (rows, cols, group) in [(8, 32, 32), (24, 96, 0), (40, 128, 64)] {
        let grid = quantize(&weights(rows * cols, 5), cols, 4, group, None, Symmetry::Asymmetric).unwrap();
        assert_eq!(awq::unpack(&awq::pack(&grid).unwrap(), group).unwrap(), grid);
    }
    let refused = |rows, cols, bits, group| {
        let grid = quantize(&weights(rows * cols, 5), cols, bits, group, None, Symmetry::Asymmetric).unwrap();
        awq::pack(&grid).expect_err("an error").to_string()
    };
    assert!(refused(12, 32, 4, 32).contains("AWQ"));
    assert!(refused(8, 96, 4, 64).contains("64"));
    assert!(refused(8, 32, 3, 32).contains("bits"));
}

#[test]
fn lies_are_refused() {
    let grid = random_grid(32, 96, 4, 32, Symmetry::AsymmetricFromOne);
    let good = gptq::pack(&grid, Version::V1).unwrap();
    let lie = |change: &dyn Fn(&mut GptqTensors)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        gptq::unpack(&tensors, 4, 32, Version::V1).unwrap_err().to_string()
    };
    assert!(lie(&|t| t.qweight.truncate(5)).contains("qweight has 5 values"));
    assert!(lie(&|t| t.qzeros.push(0)).contains("qzeros has 13"));
    assert!(lie(&|t| t.scales.clear()).contains("scales has 0"));
    assert!(lie(&|t| t.scales[7] = 0x7c00).contains("inf"));
    assert!(lie(&|t| t.g_idx[4] = 3).contains("g_idx: value 4 is 3"));
    assert!(lie(&|t| t.g_idx[4] = -1).contains("g_idx: value 4 is -1"));
    assert!(lie(&|t| t.g_idx[4] = 1).contains("gives group 0 31 columns instead of 32"));
    assert!(lie(&|t| t.rows = usize::MAX).contains("qweight"));
    assert!(lie(&|t| t.cols = usize::MAX).contains("qweight"));
    let empty =
        GptqTensors { rows: usize::MAX, cols: 0, qweight: vec![], qzeros: vec![], scales: vec![], g_idx: vec![] };
    assert!(gptq::unpack(&empty, 4, 32, Version::V1).unwrap_err().to_string().contains("no weights"));
    assert!(gptq::unpack(&good, 9, 32, Version::V1).is_err());

    let mut zero = grid.clone();
    zero.zeros[3] = 0;
    assert!(gptq::pack(&zero, Version::V1).unwrap_err().to_string().contains("zero point 3"));
    assert!(gptq::pack(&zero, Version::V2).is_ok());
    zero.codes[9] = 16;
    assert!(gptq::pack(&zero, Version::V2).unwrap_err().to_string().contains("value 9 is 16"));

    let short = random_grid(8, 96, 4, 64, Symmetry::Asymmetric);
    assert!(compressed_tensors::pack(&short, false).unwrap_err().to_string().contains("groups of 64"));
    assert!(compressed_tensors::pack(&grid, true).is_err(), "not symmetric");
    let mut packed = compressed_tensors::pack(&grid, false).unwrap();
    packed.shape = [33, 96];
    assert!(compressed_tensors::unpack(&packed, 4, 32).is_err());

    for (config, field) in [
        (serde_json::json!({ "bits": 5000 }), "bits"),
        (serde_json::json!({ "bits": 4, "group_size": 0 }), "group_size"),
        (serde_json::json!({ "bits": 4, "group_size": 128, "checkpoint_format": "marlin" }), "checkpoint_format"),
        (serde_json::json!({ "quant_method": "awq" }), "quant_method"),
        (serde_json::json!(null), "bits"),
    ] {
        let error = GptqConfig::from_json(&config).unwrap_err();
        assert!(matches!(error, Error::Grid(_)) && error.to_string().contains(field), "{error}");
    }
    assert!(PackedConfig::from_json(&serde_json::json!({ "quant_method": "compressed-tensors" })).is_err());
}
