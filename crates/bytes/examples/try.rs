use brevity_bytes::{codec, level::Level};
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let level = Level::of(a[1].parse().unwrap()).unwrap();
    for f in &a[2..] {
        let data = std::fs::read(f).unwrap();
        let n = data.len();
        let t = cpu();
        let out = codec::encode(&data, &level);
        let e = cpu() - t;
        let t = cpu();
        let dec = if std::env::var("D").is_ok() {
            let ok = codec::decode(&out, n, 1 << 34).unwrap() == data;
            format!("{ok} {:.2} MB/s", n as f64 / 1e6 / (cpu() - t))
        } else {
            String::new()
        };
        println!(
            "{f}: {n} -> {} bpb {:.4} {:.2} MB/s {:?} {dec}",
            out.len(),
            out.len() as f64 * 8.0 / n as f64,
            n as f64 / 1e6 / e,
            &out[..8]
        );
    }
}
