//! A trained model for inference.

use crate::{
    file::{self, File},
    input::Input,
    network::Network,
    outputs,
};
use finetune_image::{
    Error, Result,
    card::ModelCard,
    image::Decode,
    prediction::Prediction,
    preparation::Preparation,
    sample::{Placement, Task},
    source::ImageSource,
};
use rayon::prelude::*;
use std::path::Path;
use tract_onnx::pb::ModelProto;

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
    /// The shape of the input without the batch: `[C, H, W]`, or `[H, W, C]` for bytes.
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
        Self::parse(file::read(path)?, path)
    }

    /// Reads a file in memory as [`load`](Self::load) does, for example from `include_bytes!`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let name = Path::new("the model in memory");
        Self::parse(file::decode(bytes, name)?, name)
    }

    fn parse(proto: ModelProto, name: &Path) -> Result<Self> {
        let named = |why: String| Error::checkpoint(name, why);
        let card = file::card(&proto).map_err(named)?;
        let file = File::checked(proto).map_err(named)?;
        let input = file.image(card.input).map_err(named)?;
        let preparation = card.preparation().map_err(|e| named(e.to_string()))?;
        let network = Network::new(file, name)?;
        let (output, wanted) = (network.output_shape(), outputs::shape(&card, input));
        if output != wanted {
            return Err(named(format!(
                "the output of its network is {output:?}, and the task needs {wanted:?}"
            )));
        }
        Ok(Self { network, card, preparation, input })
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

    /// Returns the network, for inputs that the program prepares itself. Clones of it share its weights.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
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
        let prepared = self.preparation.batch(vec![sample], 0)?;
        let placement = prepared.placements.first().cloned().flatten();
        let input = Input::prepared(prepared, self.card.input)?;
        let sides = &input.shape()[1..];
        if sides != self.input {
            let why = format!(
                "{name} is {sides:?} after its transforms, and the input of the network is {:?}",
                self.input
            );
            return Err(Error::mismatch("predict", why));
        }
        Ok((self.network.run(input)?.into_raw_vec_and_offset().0, placement))
    }
}
