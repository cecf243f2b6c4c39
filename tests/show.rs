//! Pictures have the size that was asked for, ink where text belongs, and say what they show.

#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

use finetune::{
    image::Image,
    show::{Cell, Chart, Figure, Grid, plot_function},
};

fn look(name: &str, figure: &Figure) {
    if let Some(folder) = std::env::var_os("FINETUNE_SHOW_DIR") {
        let folder = std::path::Path::new(&folder);
        figure.save(folder.join(format!("{name}.png"))).unwrap();
        figure.save(folder.join(format!("{name}.svg"))).unwrap();
    }
}

#[test]
fn charts() {
    let losses: Vec<f64> = (0..100).map(|i| 2.3 * (-f64::from(i) / 30.0).exp() + 0.2).collect();
    let f = Chart::new("Loss")
        .x("step")
        .y("loss")
        .line("train", losses.iter().enumerate().map(|(i, l)| (i as f64, *l)))
        .line_with_dots("valid", [(25.0, 1.4), (50.0, 0.9), (75.0, 0.7), (99.0, 0.72)])
        .figure();
    look("chart_loss", &f);
    let lrs = (0..100).map(|i| 1e-7 * 10f64.powf(8.0 * f64::from(i) / 99.0));
    let f = Chart::new("Learning rate finder")
        .x("learning rate")
        .y("loss")
        .log_x()
        .line("", lrs.map(|lr| (lr, 1.0 + (lr * 3.0).powi(2) - 0.3 * (lr * 100.0).tanh())))
        .mark("valley 1.3e-3", (1.3e-3, 0.96))
        .mark("slide 5e-3", (5e-3, 0.86))
        .mark("minimum 2e-2", (2e-2, 0.72))
        .mark("steep 8e-3", (8e-3, 0.80))
        .figure();
    look("chart_lr", &f);
    let f = Chart::new("Calibration")
        .x("probability")
        .y("share that is right")
        .x_range(0.0..=1.0)
        .y_range(0.0..=1.0)
        .bars("accuracy", (0..10).map(|i| (0.05 + 0.1 * f64::from(i), 0.09 * f64::from(i))), 0.1)
        .dashed("perfect", [(0.0, 0.0), (1.0, 1.0)])
        .figure();
    look("chart_bars", &f);
    look("chart_function", &plot_function("sigmoid", |x| 1.0 / (1.0 + (-x).exp()), -6.0..=6.0));
    look("chart_empty", &Chart::new("Nothing").x("x").y("y").figure());
}

#[test]
fn grids() {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images");
    let mut files: Vec<_> = std::fs::read_dir(photos).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let cells = files.iter().step_by(20).take(9).enumerate().map(|(i, f)| {
        let p = image::open(f).unwrap().to_rgb8();
        let p = Image::new(p.width(), p.height(), 3, p.into_raw()).unwrap();
        let name = f.file_stem().unwrap().to_string_lossy().into_owned();
        let cell = Cell::new(p).line(name.clone());
        if i % 2 == 0 { cell.right(name) } else { cell.wrong("american_pit_bull_terrier_long") }
    });
    let f = Grid::new("Actual above, predicted below", cells.collect()).figure();
    look("grid", &f);
}

#[test]
fn a_long_name_is_written_smaller_before_it_is_cut() {
    let written = |name: &str| {
        let photo = Image::new(1, 1, 3, vec![90; 3]).unwrap();
        Grid::new("", vec![Cell::new(photo).wrong(name)]).figure().svg().unwrap()
    };
    // Wider than its photo in the size of shorter names.
    let long = "american_pit_bull_terrier_long";
    let text = written(long);
    assert!(text.contains(long), "{text}");
    let longer = long.repeat(2);
    let text = written(&longer);
    assert!(!text.contains(&longer) && text.contains('…'), "{text}");
}
