//! The position of an image in its original.

/// The position of an image in its original: the inverse of all transforms. It maps predictions back to the
/// original image.
///
/// Coordinates are in pixels from the upper left corner; the center of the first pixel is (0.5, 0.5).
///
/// ```
/// use finetune::sample::Placement;
///
/// // The right half of an image of 80×40 pixels, shrunk to 20×20.
/// let whole = Placement::whole((80, 40));
/// let half = whole.then((20, 20), [[2.0, 0.0, 40.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]);
/// assert_eq!(half.to_original(10.0, 10.0), (60.0, 20.0));
/// assert_eq!(half.from_original(60.0, 20.0), (10.0, 10.0));
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Placement {
    original: (u32, u32),
    size: (u32, u32),
    map: [[f64; 3]; 3],
}

const ONE: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

fn times(a: &[[f64; 3]; 3], b: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

fn at(m: &[[f64; 3]; 3], x: f64, y: f64) -> (f64, f64) {
    let row = |r: &[f64; 3]| r[0] * x + r[1] * y + r[2];
    let depth = row(&m[2]);
    (row(&m[0]) / depth, row(&m[1]) / depth)
}

/// Returns the inverse up to a factor, which is irrelevant for homogeneous coordinates.
fn adjugate(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let minor = |a: usize, b: usize, c: usize, d: usize| m[a][c] * m[b][d] - m[a][d] * m[b][c];
    [
        [minor(1, 2, 1, 2), -minor(0, 2, 1, 2), minor(0, 1, 1, 2)],
        [-minor(1, 2, 0, 2), minor(0, 2, 0, 2), -minor(0, 1, 0, 2)],
        [minor(1, 2, 0, 1), -minor(0, 2, 0, 1), minor(0, 1, 0, 1)],
    ]
}

impl Placement {
    /// Returns the placement of the original image itself, with (width, height) pixels.
    #[must_use]
    pub fn whole(size: (u32, u32)) -> Self {
        Self { original: size, size, map: ONE }
    }

    /// Returns the placement of an image of `size` (width, height) that was made from this one. `map` maps
    /// a position in the new image to the corresponding position in this one, in homogeneous coordinates.
    #[must_use]
    pub fn then(&self, size: (u32, u32), map: [[f64; 3]; 3]) -> Self {
        Self { original: self.original, size, map: times(&self.map, &map) }
    }

    /// Returns the width and height of the original image.
    #[must_use]
    pub fn original_size(&self) -> (u32, u32) {
        self.original
    }

    /// Returns the width and height of the image.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Maps a position in the image to the original.
    #[must_use]
    pub fn to_original(&self, x: f64, y: f64) -> (f64, f64) {
        at(&self.map, x, y)
    }

    /// Maps a position in the original to the image.
    #[must_use]
    pub fn from_original(&self, x: f64, y: f64) -> (f64, f64) {
        at(&adjugate(&self.map), x, y)
    }

    /// Returns the map of [`from_original`](Self::from_original), for many positions.
    pub fn inverse(&self) -> impl Fn(f64, f64) -> (f64, f64) + Sync {
        let inverse = adjugate(&self.map);
        move |x, y| at(&inverse, x, y)
    }
}
