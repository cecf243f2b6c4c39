//! The URLs of fastai's image data sets, with the lengths and checksums that fastai records.

/// fastai's record of an archive: its length in bytes, and the MD5 of its first 2²⁰ bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) bytes: u64,
    pub(super) md5: &'static str,
}

macro_rules! urls {
    ($($(#[doc = $doc:literal])* $name:ident = $place:literal, $bytes:literal, $md5:literal;)*) => {
        /// The URLs of fastai's image data sets, with fastai's names
        /// (<https://docs.fast.ai/data.external.html>), for [`untar_data`](crate::download::untar_data).
        #[derive(Debug)]
        pub struct URLs;

        impl URLs {
            $(
                $(#[doc = $doc])*
                pub const $name: &'static str =
                    concat!("https://s3.amazonaws.com/fast-ai-", $place);
            )*
        }

        /// Returns fastai's record of the archive at `url`, if there is one.
        pub(super) fn record(url: &str) -> Option<Record> {
            match url {
                $(URLs::$name => Some(Record { bytes: $bytes, md5: $md5 }),)*
                _ => None,
            }
        }
    };
}

urls! {
    /// 37 breeds of cats and dogs: Oxford-IIIT Pet.
    PETS = "imageclas/oxford-iiit-pet.tgz", 811706944, "e4db5c768afd933bb91f5f594d7417a4";
    /// Ten easy classes of ImageNet, full size.
    IMAGENETTE = "imageclas/imagenette2.tgz", 1557161267, "2c774ecb40005b35d7937d50f5d42336";
    /// Imagenette, shorter side 320 pixels.
    IMAGENETTE_320 = "imageclas/imagenette2-320.tgz", 341663724, "1f1f74f133caff120e575856659b87a2";
    /// Imagenette, shorter side 160 pixels.
    IMAGENETTE_160 = "imageclas/imagenette2-160.tgz", 99003388, "c475f8f7617a200ba35b9facc48443c3";
    /// Ten breeds of dogs from ImageNet, full size.
    IMAGEWOOF = "imageclas/imagewoof2.tgz", 1343715595, "2cc1c1e36e20cb6fd24ffb978edcb487";
    /// Imagewoof, shorter side 320 pixels.
    IMAGEWOOF_320 = "imageclas/imagewoof2-320.tgz", 328387740, "7a1fd92672a559a85de76e4810a20c21";
    /// Imagewoof, shorter side 160 pixels.
    IMAGEWOOF_160 = "imageclas/imagewoof2-160.tgz", 92612825, "3559b194123981a540b87132dbda412f";
    /// Imagenette and Imagewoof for semi-supervised learning, full size.
    IMAGEWANG = "imageclas/imagewang.tgz", 2900347689, "2b7776bac0fc95db72ac8a3b091a3e30";
    /// Imagewang, shorter side 320 pixels.
    IMAGEWANG_320 = "imageclas/imagewang-320.tgz", 669826647, "fff8ac034d60e14fcf7789845e625263";
    /// Imagewang, shorter side 160 pixels.
    IMAGEWANG_160 = "imageclas/imagewang-160.tgz", 191498213, "dab9b1d97b95574ac64122a19bc74ca1";
    /// Handwritten digits.
    MNIST = "imageclas/mnist_png.tgz", 15683414, "03639f83c4e3d19e0a3a53a8a997c487";
    /// The threes and sevens of MNIST.
    MNIST_SAMPLE = "sample/mnist_sample.tgz", 3214948, "2dbc7ec6f9259b583af0072c55816a88";
    /// About 1,400 threes and sevens of MNIST.
    MNIST_TINY = "sample/mnist_tiny.tgz", 342207, "56143e8f24db90d925d82a5a74141875";
    /// MNIST_TINY with images of different sizes.
    MNIST_VAR_SIZE_TINY = "imageclas/mnist_var_size_tiny.tgz", 565372, "b71a930f4eb744a4a143a6c7ff7ed67f";
    /// Ten classes at 32 pixels: CIFAR-10.
    CIFAR = "sample/cifar10.tgz", 168168549, "a5f8c31371b63a406b23368042812d3c";
    /// A hundred classes at 32 pixels: CIFAR-100.
    CIFAR_100 = "imageclas/cifar100.tgz", 169168619, "e5e65dcb54b9d3913f7b8a9ad6607e62";
    /// Dogs and cats.
    DOGS = "sample/dogscats.tgz", 839285364, "3e483c8d6ef2175e9d395a6027eb92b7";
    /// 101 kinds of objects.
    CALTECH_101 = "imageclas/caltech_101.tgz", 131740031, "d673425306e98ee4619fcdeef8a0e876";
    /// 196 models of cars.
    CARS = "imageclas/stanford-cars.tgz", 1957803273, "9045d6673c9ced0889f41816f6bf2f9f";
    /// 200 species of birds.
    CUB_200_2011 = "imageclas/CUB_200_2011.tgz", 1150585339, "d2acaa99439dff0483c7bbac1bfe2a92";
    /// 102 kinds of flowers.
    FLOWERS = "imageclas/oxford-102-flowers.tgz", 345236087, "5666e01c1311b4c67fcf20d2b3850a88";
    /// 101 dishes.
    FOOD = "imageclas/food-101.tgz", 5686607260, "1a540ebf1fb40b2bf3f2294234ba7907";
    /// Bedrooms of LSUN.
    LSUN_BEDROOMS = "imageclas/bedroom.tgz", 4579163978, "35d84f38f8a15fe47e66e460c8800d68";
    /// Satellite images with several labels each: a sample.
    PLANET_SAMPLE = "sample/planet_sample.tgz", 15523994, "8bfb174b3162f07fbde09b54555bdb00";
    /// Satellite images with several labels each: 200 images.
    PLANET_TINY = "sample/planet_tiny.tgz", 997569, "490873c5683454d4b2611fb1f00a68a9";
    /// Photos with several labels each: Pascal VOC 2007.
    PASCAL_2007 = "imagelocal/pascal_2007.tgz", 1637796771, "433b4706eb7c42bd74e7f784e3fdf244";
    /// Photos with several labels each: Pascal VOC 2012.
    PASCAL_2012 = "imagelocal/pascal_2012.tgz", 2618908000, "d90e29e54a4c76c0c6fba8355dcbaca5";
    /// The center of a head, for regression.
    BIWI_HEAD_POSE = "imagelocal/biwi_head_pose.tgz", 452316199, "00f4ccf66e8cba184bc292fdc08fb237";
    /// The center of a head: a sample.
    BIWI_SAMPLE = "sample/biwi_sample.tgz", 593774, "9179f4c1435f4b291f0d5b072d60c2c9";
    /// Street scenes with masks.
    CAMVID = "imagelocal/camvid.tgz", 598913237, "648371e4f3a833682afb39b08a3ce2aa";
    /// Street scenes with masks: 100 images.
    CAMVID_TINY = "sample/camvid_tiny.tgz", 2314212, "2cf6daf91b7a2083ecfa3e9968e9d915";
    /// Images with boxes: a sample of COCO.
    COCO_SAMPLE = "coco/coco_sample.tgz", 3245877008, "006cd55d633d94b36ecaf661467830ec";
    /// Images with boxes: a tiny sample of COCO.
    COCO_TINY = "coco/coco_tiny.tgz", 801038, "367467451ac4fba79a647753c2c66d3a";
    /// Chest X-rays, in DICOM.
    SIIM_SMALL = "imagelocal/siim_small.tgz", 33276453, "2f88ac350dce1d971ecbb5ec722da75f";
    /// Tissue microscopy.
    TCGA_SMALL = "imagelocal/tcga_small.tgz", 14744474, "3ceffe7cf522cb1c60e93dc555d8817f";
}
