//! Displays values in a notebook with the Rust kernel, [evcxr](https://github.com/evcxr/evcxr). It calls
//! `evcxr_display` on the last expression of a cell and reads the printed output.

use crate::{
    data::DataLoaders,
    interpret::{
        Calibration, ClassificationInterpretation, ClassificationReport, MultiLabelInterpretation,
        Proportion, RegressionInterpretation,
    },
    learner::{History, LrCurve},
};

/// Prints the same content in several formats, of which the notebook uses the richest.
#[allow(clippy::print_stdout, reason = "the kernel reads what a value prints")]
pub(super) fn show(formats: &[(&str, &str)]) {
    for (mime, content) in formats {
        println!("EVCXR_BEGIN_CONTENT {mime}\n{content}\nEVCXR_END_CONTENT");
    }
}

macro_rules! as_table {
    ($($shown:ty: $table:ident,)*) => {$(
        impl $shown {
            /// Shows its table in a notebook with the Rust kernel (evcxr), which calls this for the
            /// last expression of a cell.
            pub fn evcxr_display(&self) {
                self.$table().evcxr_display();
            }
        }
    )*};
}

as_table!(
    History: table,
    ClassificationReport: table,
    Calibration: table,
    ClassificationInterpretation: table,
    MultiLabelInterpretation: table,
    RegressionInterpretation: table,
);

impl LrCurve {
    /// Shows the curve with its suggestions in a notebook with the Rust kernel (evcxr), which calls
    /// this for the last expression of a cell.
    pub fn evcxr_display(&self) {
        match self.plot() {
            Ok(figure) => figure.evcxr_display(),
            Err(e) => show(&[("text/plain", &e.to_string())]),
        }
    }
}

impl DataLoaders {
    /// Shows nine training items in a notebook with the Rust kernel (evcxr), which calls this for the
    /// last expression of a cell.
    pub fn evcxr_display(&self) {
        match self.show_batch(9) {
            Ok(figure) => figure.evcxr_display(),
            Err(e) => show(&[("text/plain", &e.to_string())]),
        }
    }
}

impl Proportion {
    /// Shows the proportion and its interval in a notebook with the Rust kernel (evcxr), which calls this
    /// for the last expression of a cell.
    pub fn evcxr_display(&self) {
        show(&[("text/plain", &self.to_string())]);
    }
}
