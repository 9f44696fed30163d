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
                let t = std::time::Instant::now();
                let inv = crossmod::linux::inventory(&images);
                println!("{:?} {:?} {:?}", t.elapsed(), inv.overlaps, inv.exceptions);
                for k in &inv.kinds { println!("{} {} {} {} {} {}", k.kind, k.sites, k.places, k.tail, k.entered, k.faulting); for l in &k.lengths { println!("{l:?}"); } }
                for e in inv.entered.iter().take(10) { println!("{e:?}"); }
                for (k, n) in counts { println!("  {k:?} {n}"); }
            }
            Err(e) => println!("{e}"),
        }
    }
}
