//! x
fn main() {
    for p in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        match crossmod::linux::load(p.as_ref(), &|_, _| {}) {
            Ok(images) => {
                let mut counts = std::collections::BTreeMap::new();
                for i in &images { for s in &i.tables.sites { *counts.entry((s.kind, s.bytes.len(), s.state())).or_insert(0) += 1; } }
                println!("{p}: {} images {:?} {:?}", images.len(), images[0].release, t.elapsed());
                println!("{:?} {:?} {:?} syms {}", images[0].tables.formats, images[0].tables.padding, images[0].compression, images[0].binary.symbols.len());
                for (k, n) in counts { println!("  {k:?} {n}"); }
            }
            Err(e) => println!("{e}"),
        }
    }
}
