//! Reading a table of items with any content succeeds or returns an error.
#![no_main]

use finetune::data::Csv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let path = std::env::temp_dir().join(format!("finetune-fuzz-{}.csv", std::process::id()));
    std::fs::write(&path, rest).expect("the folder can be written");
    let delimiter = [b',', b';', b'\t', b'|'][usize::from(first % 4)];
    if let Ok(rows) = Csv::new().delimiter(delimiter).header(first & 4 == 0).read(&path) {
        for row in rows {
            std::hint::black_box((
                row.number(),
                row.get(&0.into()).ok(),
                row.get(&"label".into()).ok(),
            ));
        }
    }
});
