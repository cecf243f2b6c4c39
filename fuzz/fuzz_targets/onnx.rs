//! Loading an ONNX file with any content and predicting with it succeeds or returns an error.
#![no_main]

use finetune_predict::{Image, Network, Predictor, ndarray::ArrayD};
use libfuzzer_sys::fuzz_target;

/// The maximum number of values of an input. Larger inputs take longer than they find errors.
const VALUES: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    if let Ok(predictor) = Predictor::from_bytes(data) {
        let image = Image::new(8, 8, 3, vec![90; 192]).expect("as many bytes as the size says");
        if predictor.network().input_shape().iter().product::<usize>() <= VALUES {
            let _ = predictor.predict(image);
        }
    } else if let Ok(network) = Network::from_bytes(data) {
        // Without a valid description.
        let shape = [&[2][..], network.input_shape()].concat();
        if shape.iter().product::<usize>() <= VALUES {
            let _ = network.run(ArrayD::<f32>::zeros(shape));
        }
    }
});
