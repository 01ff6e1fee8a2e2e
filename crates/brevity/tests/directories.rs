//! Directories in Hugging Face layout: what is written is read back as the same numbers, and bits are bytes.

use brevity::compress::Job;
use brevity::compress::directory::DirectoryFormat;
use brevity::compress::goal::Goal;
use brevity::compress::report::Report;
use brevity::convert;
use brevity::progress::Show;
use brevity_formats::TensorType;
use brevity_formats::safetensors::{Checkpoint, SafetensorsWriter, TensorPlan};
use brevity_kernels::Matrix;
use brevity_model::cache::CacheType;
use brevity_model::{Config, Logits, Model, ModelSource, Options, Role, Sequence, TensorKind};
use brevity_parts::Activation;
use brevity_weights::plan::Rules;
use brevity_weights::{Level, Statistics, registry};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const TEXT: [u32; 12] = [5, 170, 79, 3, 3, 441, 0, 22, 640, 11, 30, 699];

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 720, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "dtype": "float32", "rms_norm_eps": 1e-5,
    })
}

fn qwen2() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 720, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 64, "tie_word_embeddings": true,
    })
}

fn gpt2() -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 720, "n_embd": 64, "n_layer": 2,
        "n_head": 2, "n_positions": 64,
    })
}

/// A directory with random weights (of whole bfloats, so that every number type holds them) and a tokenizer.
fn random_model(dir: &Path, config_json: &Value) -> PathBuf {
    let path = dir.join("model");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("config.json"), config_json.to_string()).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/tokenizers/smollm");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer.join(name), path.join(name)).unwrap();
    }
    let config = Config::from_hf_json("config.json", config_json.to_string().as_bytes()).unwrap();
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let mut plan = Vec::new();
    let mut contents = Vec::new();
    for spec in config.tensors() {
        let shape = match (spec.vector, spec.role.transposed_in_hf(config.architecture)) {
            (true, _) => vec![spec.rows],
            (false, true) => vec![spec.cols, spec.rows],
            (false, false) => vec![spec.rows, spec.cols],
        };
        let (offset, scale) = match (spec.vector, spec.role.bias) {
            (true, false) => (1.0, 0.25),
            (true, true) => (0.0, 0.25),
            _ => (0.0, 2.0 / (spec.cols as f32).sqrt()),
        };
        let value = |x: f32| f32::from_bits((offset + scale * x).to_bits() & 0xffff_0000).to_le_bytes();
        contents.push((0..spec.rows * spec.cols).flat_map(|_| value(next())).collect::<Vec<u8>>());
        plan.push(TensorPlan { name: spec.role.hf_name(config.architecture).unwrap(), shape, ty: TensorType::F32 });
    }
    let mut writer = SafetensorsWriter::create(path.join("model.safetensors"), &[], &plan, true).unwrap();
    plan.iter().zip(&contents).for_each(|(tensor, bytes)| writer.write(&tensor.name, bytes).unwrap());
    writer.finish().unwrap();
    path
}

fn job(model: &Path, grid: &str, format: Option<DirectoryFormat>, output: &Path) -> Job {
    Job {
        model: Some(model.display().to_string()),
        goal: Goal::Grid(Level::parse(grid).unwrap()),
        chain: registry::chain("rtn").unwrap(),
        rules: Rules::default(),
        output: Some(output.to_owned()),
        format,
        force: false,
        allow_requantize: false,
        memory: None,
        calibration: None,
        calibration_windows: 32,
        imatrix: None,
        allocator: None,
        levels: None,
        text: None,
        chunks: 1,
        evaluate: false,
        activation: Activation::F32,
        show: Show::Nothing,
    }
}

fn logits(source: &ModelSource) -> Matrix {
    let model = Model::load(source, Options { activation: Activation::F32, chunk: 512 }).unwrap();
    let mut cache = model.new_cache(TEXT.len(), CacheType::F32).unwrap();
    model.forward(&mut [Sequence { tokens: &TEXT, cache: &mut cache }], Logits::All, None).unwrap()
}

fn values(source: &ModelSource, role: Role) -> Vec<f32> {
    let entry = source.require(role).unwrap();
    source.read_rows_f32(entry, 0..entry.rows).unwrap()
}

fn assert_same_weights(one: &ModelSource, other: &ModelSource) {
    for entry in one.tensors() {
        assert!(values(one, entry.role) == values(other, entry.role), "{}", entry.name);
    }
}

fn safetensors_bytes(dir: &Path) -> (u64, u64) {
    let files = Checkpoint::open(dir).unwrap();
    let tensors = files.tensors().iter().map(|tensor| tensor.bytes).sum();
    let descriptors = std::fs::metadata(dir.join("brevity.json")).map_or(0, |file| file.len());
    (tensors, files.file_bytes() + descriptors)
}

/// Compresses, and checks everything that must hold whatever the model, the grid and the format.
fn check(config: &Value, grid: &str, format: Option<DirectoryFormat>, method: &str) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let model = random_model(dir.path(), config);
    let output = dir.path().join("out");
    let report = job(&model, grid, format, &output).run().unwrap();
    let (tensors, files) = safetensors_bytes(&output);
    assert_eq!((report.plan.tensor_bytes, report.bytes_after), (tensors, files), "{grid} {method}: bits are bytes");

    let json: Value = serde_json::from_slice(&std::fs::read(output.join("config.json")).unwrap()).unwrap();
    assert_eq!(json["quantization_config"]["quant_method"], method);
    assert_eq!(json["architectures"], config["architectures"]);
    let (source, back) = (ModelSource::open(&model).unwrap(), ModelSource::open(&output).unwrap());
    assert_eq!(back.config(), source.config());
    assert_eq!(
        back.tokenizer().unwrap().encode("a few words", true, true),
        source.tokenizer().unwrap().encode("a few words", true, true)
    );

    for planned in &report.plan.tensors {
        let entry = back.require(planned.entry.role).unwrap();
        assert_eq!(entry.type_name(), planned.level.to_string(), "{}", entry.name);
        assert_eq!(entry.bytes, planned.bytes, "{}", entry.name);
        assert_eq!(entry.is_quantized(), entry.role.layer.is_some() && !entry.vector, "{}", entry.name);
        let weights = Matrix::from_vec(entry.rows, entry.cols, values(&source, entry.role));
        let stored =
            registry::method("rtn").unwrap().compress(&weights, &Statistics::default(), planned.level).unwrap();
        let expected = stored.dequantize().unwrap();
        assert!(values(&back, entry.role) == expected.data(), "{} {grid} {method}", entry.name);
    }

    let dense = dir.path().join("dense");
    convert::run(&back, &dense, None, false, Show::Nothing).unwrap();
    let dense = ModelSource::open(&dense).unwrap();
    assert!(!dense.tensors().iter().any(|tensor| tensor.is_quantized()));
    assert_same_weights(&back, &dense);
    let (packed, plain) = (logits(&back), logits(&dense));
    let worst = packed.data().iter().zip(plain.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-5, "{grid} {method}: {worst}");
    report
}

#[test]
fn every_format_comes_back() {
    use DirectoryFormat::*;
    for (grid, format, method) in [
        ("int4:32", None, "gptq"),
        ("int3:64", Some(Gptq), "gptq"),
        ("int2:32", Some(Gptq), "gptq"),
        ("int8:row", Some(Gptq), "gptq"),
        ("int4:32", Some(Awq), "awq"),
        ("int4:row", Some(Awq), "awq"),
        ("int4:32", Some(CompressedTensors), "compressed-tensors"),
        ("int8:row", Some(CompressedTensors), "compressed-tensors"),
        ("int3:32", Some(Parts), "brevity"),
        ("int5:64", None, "brevity"),
        ("int4:64", Some(Parts), "brevity"),
    ] {
        check(&llama(), grid, format, method);
    }
}

#[test]
fn every_architecture_comes_back() {
    for config in [qwen2(), gpt2()] {
        check(&config, "int4:32", Some(DirectoryFormat::Gptq), "gptq");
        if config["model_type"] != "gpt2" {
            check(&config, "int4:32", Some(DirectoryFormat::Awq), "awq");
        }
        check(&config, "int6:32", None, "brevity");
    }
}

#[test]
fn parts_hold_blocks_embedding_and_head() {
    let dir = tempfile::tempdir().unwrap();
    let model = random_model(dir.path(), &llama());
    for (grid, quantize_embedding) in [("q8_0", false), ("q4_0", false), ("int4:32", true)] {
        let output = dir.path().join(format!("out-{}", grid.replace(':', "-")));
        let mut job = job(&model, grid, Some(DirectoryFormat::Parts), &output);
        job.rules.pure = true;
        job.rules.quantize_embedding = quantize_embedding;
        let report = job.run().unwrap();
        assert_eq!((report.plan.tensor_bytes, report.bytes_after), safetensors_bytes(&output));
        let back = ModelSource::open(&output).unwrap();
        for kind in [TensorKind::TokenEmbedding, TensorKind::Output] {
            assert_eq!(back.require(Role::global(kind)).unwrap().type_name(), grid);
        }
        let dense = dir.path().join(format!("dense-{}", grid.replace(':', "-")));
        convert::run(&back, &dense, Some(TensorType::F32), false, Show::Nothing).unwrap();
        let dense = ModelSource::open(&dense).unwrap();
        assert_same_weights(&back, &dense);
        let (packed, plain) = (logits(&back), logits(&dense));
        let worst = packed.data().iter().zip(plain.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-5, "{grid}: {worst}");
    }
}

#[test]
fn layouts_are_undone_and_redone() {
    for config in [llama(), qwen2(), gpt2()] {
        let dir = tempfile::tempdir().unwrap();
        let original = ModelSource::open(random_model(dir.path(), &config)).unwrap();
        let convert = |source: &ModelSource, name: &str, ty| {
            let path = dir.path().join(name);
            convert::run(source, &path, ty, false, Show::Nothing).unwrap();
            ModelSource::open(path).unwrap()
        };
        let gguf = convert(&original, "there.gguf", Some(TensorType::BF16));
        let again = convert(&gguf, "again.gguf", None);
        assert_same_weights(&gguf, &again);
        let back = convert(&gguf, "back", Some(TensorType::BF16));
        assert_same_weights(&original, &back);
        let straight = convert(&original, "straight", None);
        assert_same_weights(&original, &straight);
        assert_eq!(original.config().tensors(), back.config().tensors());
        assert_eq!(original.config().position, back.config().position);
        assert!(dir.path().join("back/tokenizer.gguf").exists());
        for text in ["a few words", "  1234 <|im_end|>é"] {
            let encode = |source: &ModelSource| source.tokenizer().unwrap().encode(text, true, true);
            assert_eq!(encode(&original), encode(&back), "{text}");
        }
        assert!(logits(&original).data() == logits(&back).data());
    }
}

#[test]
fn blocks_of_gguf_become_parts_with_nothing_lost() {
    let dir = tempfile::tempdir().unwrap();
    let model = random_model(dir.path(), &llama());
    let gguf = dir.path().join("q8.gguf");
    job(&model, "q8_0", None, &gguf).run().unwrap();
    let gguf = ModelSource::open(gguf).unwrap();
    convert::run(&gguf, &dir.path().join("parts"), None, false, Show::Nothing).unwrap();
    let parts = ModelSource::open(dir.path().join("parts")).unwrap();
    let (q, order) = (Role::block(0, TensorKind::AttnQ), brevity_model::export::unpermute_rows(64, 4));
    let (before, after) = (values(&gguf, q), values(&parts, q));
    for (row, from) in order.into_iter().enumerate() {
        assert_eq!(after[row * 64..][..64], before[from * 64..][..64]);
    }
    let role = Role::block(1, TensorKind::FfnDown);
    assert_eq!(parts.require(role).unwrap().type_name(), "q8_0");
    assert_eq!(values(&gguf, role), values(&parts, role));
    let (one, other) = (logits(&gguf), logits(&parts));
    let worst = one.data().iter().zip(other.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4, "{worst}");
}

#[test]
fn what_a_format_cannot_hold_is_refused_with_those_that_can() {
    use DirectoryFormat::*;
    let dir = tempfile::tempdir().unwrap();
    let model = random_model(dir.path(), &llama());
    let gpt2 = random_model(&dir.path().join("gpt2"), &gpt2());
    let output = dir.path().join("out");
    let cases = [
        (&model, "int5:32", Gptq, "parts"),
        (&model, "int3:32", Awq, "gptq or parts"),
        (&model, "int8:32", Awq, "gptq or compressed-tensors or parts"),
        (&model, "int4:64", Awq, "gptq or parts"),
        (&gpt2, "int4:32", Awq, "gptq or parts"),
        (&model, "int3:32", CompressedTensors, "gptq or parts"),
        (&model, "int4:64", CompressedTensors, "gptq or parts"),
        (&gpt2, "int4:32", CompressedTensors, "gptq or parts"),
    ];
    for (model, grid, format, possible) in cases {
        let error = job(model, grid, Some(format), &output).run().err().expect("an error").to_string();
        assert!(error.ends_with(&format!("--format {possible}")), "{error}");
    }
    let mut embedding = job(&model, "int4:32", Some(Gptq), &output);
    embedding.rules.quantize_embedding = true;
    assert!(embedding.run().err().expect("an error").to_string().contains("embedding"));
    assert!(!output.exists());
    let named = job(&model, "int4:32", None, &dir.path().join("out.gguf")).run();
    assert!(named.err().expect("an error").to_string().contains("directory"));
}

#[test]
fn an_existing_directory_stays_unless_forced_and_a_failure_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let model = random_model(dir.path(), &llama());
    let output = dir.path().join("out");
    job(&model, "int4:32", None, &output).run().unwrap();
    let before = std::fs::read(output.join("model.safetensors")).unwrap();
    assert!(job(&model, "int8:32", None, &output).run().is_err());
    assert!(std::fs::read(output.join("model.safetensors")).unwrap() == before);
    let mut forced = job(&model, "int8:32", None, &output);
    forced.force = true;
    forced.run().unwrap();
    assert_eq!(
        ModelSource::open(&output).unwrap().require(Role::block(0, TensorKind::AttnQ)).unwrap().type_name(),
        "int8:32"
    );
    assert!(!dir.path().join("out.partial").exists() && !dir.path().join("out.old").exists());

    let file = model.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let fresh = dir.path().join("fresh");
    assert!(job(&model, "int4:32", None, &fresh).run().is_err());
    assert!(!fresh.exists());
    let error =
        convert::run(&ModelSource::open(&model).unwrap(), &output, None, false, Show::Nothing).expect_err("an error");
    assert!(error.to_string().contains("exists"), "{error}");
}

#[test]
fn sums_of_parts_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let model = random_model(dir.path(), &llama());
    let source = ModelSource::open(&model).unwrap();
    let methods = [
        ("spqr", "spqr:3:16:100", 0.1),
        ("online-rotation", "turned:int3:32", 0.1),
        ("online-rotation", "turned:q5_0", 1e-2),
        ("llm-int8", "int8:columns:50", 1e-3),
        ("lord", "rank:500", 0.5),
        ("bitstack", "stack:3:2", 0.1),
    ];
    for (name, grid, bound) in methods {
        let output = dir.path().join(grid.replace(':', "-"));
        let chain = registry::chain(name).unwrap();
        let report = Job { chain, ..job(&model, grid, None, &output) }.run().unwrap();
        assert_eq!((report.plan.tensor_bytes, report.bytes_after), safetensors_bytes(&output), "{name}");
        let back = ModelSource::open(&output).unwrap();
        for planned in report.plan.tensors.iter().filter(|planned| matches!(planned.level, Level::Sum(_))) {
            let entry = back.require(planned.entry.role).unwrap();
            assert_eq!(entry.bytes, planned.bytes, "{}", entry.name);
            let (before, after) = (values(&source, entry.role), values(&back, entry.role));
            let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>();
            let error =
                energy(&mut before.iter().zip(&after).map(|(a, b)| a - b)) / energy(&mut before.iter().copied());
            assert!(error > 0.0 && error < bound, "{name} {}: {error}", entry.name);
        }
        assert!(logits(&back).data().iter().all(|value| value.is_finite()));
        for format in ["gguf", "gptq", "compressed-tensors"] {
            let error = DirectoryFormat::parse(format, Goal::Grid(Level::parse(grid).unwrap())).unwrap_err();
            assert!(error.to_string().contains("--format parts"), "{error}");
        }
    }
}

#[test]
fn a_stack_opens_at_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let model = random_model(dir.path(), &llama());
    let output = dir.path().join("any");
    let chain = registry::chain("bitstack").unwrap();
    Job { chain, ..job(&model, "stack:6:1", None, &output) }.run().unwrap();
    let source = ModelSource::open(&model).unwrap();
    let whole = ModelSource::open(&output).unwrap();
    let bytes = |source: &ModelSource| source.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>();
    let largest = bytes(&whole);
    let error = ModelSource::open_within(&output, 1000).err().unwrap();
    let brevity_model::Error::TooFewBytes { smallest, .. } = error else { panic!("{error}") };
    assert!(ModelSource::open_within(&output, smallest - 1).is_err());

    // Larger sizes hold every block of smaller ones, read no more than they say, and come nearer to the original.
    let distance = |part: &ModelSource| -> f64 {
        let roles = source.tensors().iter().filter(|tensor| tensor.role.layer.is_some() && !tensor.vector);
        let error =
            |role| values(&source, role).iter().zip(values(part, role)).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        roles.map(|tensor| -> f64 { error(tensor.role) }).sum()
    };
    let (mut last, mut last_bytes, mut sizes) = (f64::INFINITY, 0, 0);
    for step in 0..=16 {
        let limit = smallest + (largest - smallest) * step / 16;
        let part = ModelSource::open_within(&output, limit).unwrap();
        assert!(bytes(&part) <= limit && limit - bytes(&part) < 3000, "{} of {limit}", bytes(&part));
        assert!(bytes(&part) >= last_bytes);
        if bytes(&part) > last_bytes {
            let distance = distance(&part);
            assert!(distance < last, "{limit}: {distance} after {last}");
            (last, last_bytes, sizes) = (distance, bytes(&part), sizes + 1);
        }
        assert!(logits(&part).data().iter().all(|value| value.is_finite()));
    }
    assert!(sizes > 10, "{sizes}");
    assert!(logits(&ModelSource::open_within(&output, largest).unwrap()).data() == logits(&whole).data());
    assert!(matches!(ModelSource::open_within(&model, largest), Err(brevity_model::Error::NoBlocks { .. })));
}
