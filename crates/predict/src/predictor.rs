//! A trained model for inference.

use crate::{failure::failed, file::File, network::Network, outputs};
use finetune_image::{
    Error, Result,
    card::{ModelCard, NetworkInput},
    image::Decode,
    prediction::Prediction,
    preparation::{Preparation, Prepared},
    sample::{Placement, Task},
    source::ImageSource,
};
use rayon::prelude::*;
use std::{fs, path::Path};
use tract_onnx::prelude::Tensor;

/// A trained model for inference, without libtorch. Threads can share it.
///
/// ```no_run
/// use finetune_predict::Predictor;
/// use std::sync::Arc;
///
/// let pets = Arc::new(Predictor::load("pets.onnx")?);
/// let shared = pets.clone();
/// let other = std::thread::spawn(move || shared.predict("dog.jpg"));
/// println!("{}", pets.predict("cat.jpg")?.label);
/// # Ok::<(), finetune_predict::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Predictor {
    network: Network,
    card: ModelCard,
    preparation: Preparation,
    /// The shape of the input without the batch.
    input: [usize; 3],
}

/// Fails to compile if threads cannot share a predictor.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Predictor>();
};

impl Predictor {
    /// Reads a file that `Learner::export_onnx` of `finetune` wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read. [`Error::Checkpoint`] if it is damaged, was not written by
    /// `export_onnx`, has another version, contains a transform that this crate does not know, or is an
    /// object detector.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::parse(&fs::read(path).map_err(Error::io(path))?, path)?;
        Self::new(file, path)
    }

    /// Reads a file in memory as [`load`](Self::load) does, for example from `include_bytes!`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let name = Path::new("the model in memory");
        Self::new(File::parse(bytes, name)?, name)
    }

    fn new(file: File, name: &Path) -> Result<Self> {
        let (card, input) = (file.card.clone(), file.input);
        let preparation = card.preparation().map_err(|e| Error::checkpoint(name, e.to_string()))?;
        Ok(Self { network: file.network(name)?, card, preparation, input })
    }

    /// Sets the maximum number of pixels of an image. Larger images are an error before memory is allocated
    /// for them. Default: the value of training, 2^28 unless `ImageBlock::max_pixels` was called.
    ///
    /// # Errors
    /// [`Error::Config`] if an option of a transform is invalid.
    ///
    /// ```no_run
    /// use finetune_predict::Predictor;
    ///
    /// // Uploads of at most 50 megapixels.
    /// let pets = Predictor::load("pets.onnx")?.max_pixels(50_000_000)?;
    /// # Ok::<(), finetune_predict::Error>(())
    /// ```
    pub fn max_pixels(mut self, pixels: u64) -> Result<Self> {
        let decode: Decode = self.card.decode;
        self.card.decode = decode.max_pixels(pixels);
        self.preparation = self.card.preparation()?;
        Ok(self)
    }

    /// Returns the task, which defines the meaning of the outputs.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.card.task
    }

    /// Returns the description of the network in the file.
    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Predicts one image: a path, the bytes of an image file, or a decoded [`Image`](crate::Image).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if the file cannot be read or decoded; [`Error::Mismatch`] if the
    /// image does not have the size of the network's input after its transforms.
    pub fn predict(&self, image: impl Into<ImageSource>) -> Result<Prediction> {
        self.predicted(&image.into(), "image 0")
    }

    /// Predicts many images, in order, one on each core.
    ///
    /// ```no_run
    /// # fn f(pets: &finetune_predict::Predictor, upload: Vec<u8>) -> finetune_predict::Result<()> {
    /// use finetune_predict::ImageSource;
    ///
    /// let answers = pets.predict_batch(["cat.jpg", "dog.jpg"])?;
    /// let mixed: [ImageSource; 2] = ["cat.jpg".into(), upload.into()];
    /// let answers = pets.predict_batch(mixed)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`predict`](Self::predict), naming the image.
    pub fn predict_batch<S: Into<ImageSource>>(
        &self,
        images: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Prediction>> {
        self.predict_each(images).into_iter().collect()
    }

    /// Predicts like [`predict_batch`](Self::predict_batch), with a result for each image, so that an
    /// invalid image does not affect the others.
    pub fn predict_each<S: Into<ImageSource>>(
        &self,
        images: impl IntoIterator<Item = S>,
    ) -> Vec<Result<Prediction>> {
        let images: Vec<ImageSource> = images.into_iter().map(Into::into).collect();
        if let [image] = &images[..] {
            return vec![self.predicted(image, "image 0")];
        }
        let one = |(i, image): (usize, &ImageSource)| self.predicted(image, &format!("image {i}"));
        images.par_iter().enumerate().map(one).collect()
    }

    /// Returns the outputs of the network for one image unchanged: logits, unless the file contains the
    /// activation. For masks, they are `[codes, height, width]` in one list.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn outputs(&self, image: impl Into<ImageSource>) -> Result<Vec<f32>> {
        Ok(self.run(&image.into(), "image 0")?.0)
    }

    fn predicted(&self, source: &ImageSource, name: &str) -> Result<Prediction> {
        let (outputs, placement) = self.run(source, name)?;
        let size = outputs::sides(self.card.input, self.input);
        outputs::prediction(&self.card, outputs, size, placement, name)
    }

    fn run(&self, source: &ImageSource, name: &str) -> Result<(Vec<f32>, Option<Placement>)> {
        let sample = self.preparation.sample(source, name)?;
        let mut prepared = self.preparation.batch(vec![sample], 0)?;
        let placement = prepared.placements.pop().flatten();
        let input = self.tensor(&prepared, name)?;
        drop(prepared);
        Ok((self.network.run(input)?, placement))
    }

    /// Returns the input of the network.
    fn tensor(&self, prepared: &Prepared, name: &str) -> Result<Tensor> {
        let channels = usize::from(prepared.plan.channels());
        let fits = |shape: [usize; 3]| {
            if shape == self.input {
                return Ok(());
            }
            let why = format!(
                "{name} is {shape:?} after its transforms, and the input of the network is {:?}",
                self.input
            );
            Err(Error::mismatch("predict", why))
        };
        let tensor = match self.card.input {
            NetworkInput::Pixels => {
                let (width, height) = prepared.plan.input_size();
                let shape = [height as usize, width as usize, channels];
                fits(shape)?;
                Tensor::from_shape(&[1, shape[0], shape[1], shape[2]], &prepared.pixels)
            }
            _ => {
                let (floats, (width, height)) = prepared.floats()?;
                let shape = [channels, height as usize, width as usize];
                fits(shape)?;
                let planes = planes(&floats, channels);
                Tensor::from_shape(&[1, shape[0], shape[1], shape[2]], &planes)
            }
        };
        tensor.map_err(|e| failed(format!("{e:#}")))
    }
}

/// Reorders `[H, W, C]` to `[C, H, W]`.
fn planes(pixels: &[f32], channels: usize) -> Vec<f32> {
    let area = pixels.len() / channels.max(1);
    let mut planes = vec![0.0; pixels.len()];
    for (c, plane) in planes.chunks_exact_mut(area.max(1)).enumerate() {
        for (to, pixel) in plane.iter_mut().zip(pixels.chunks_exact(channels)) {
            *to = pixel[c];
        }
    }
    planes
}
