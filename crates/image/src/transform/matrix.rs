//! Projective maps of the plane.

/// A projective map in homogeneous coordinates, from a position in the output of a transform to the
/// position in its input that is shown there. An image spans -1 to 1 in both directions, x to the right
/// and y downwards. Nine numbers define it, so the struct is exhaustive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix(pub [[f64; 3]; 3]);

impl Matrix {
    /// The identity.
    pub const ONE: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    /// Returns the composition: first `other`, then this map.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        let mut out = [[0.0; 3]; 3];
        for (i, row) in out.iter_mut().enumerate() {
            for (j, cell) in row.iter_mut().enumerate() {
                *cell = (0..3).map(|k| self.0[i][k] * other.0[k][j]).sum();
            }
        }
        Self(out)
    }

    /// Maps a position.
    #[must_use]
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let row = |r: &[f64; 3]| r[0] * x + r[1] * y + r[2];
        let w = row(&self.0[2]);
        (row(&self.0[0]) / w, row(&self.0[1]) / w)
    }

    /// Returns the inverse up to a factor, which is irrelevant for homogeneous coordinates.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let m = &self.0;
        let minor = |a: usize, b: usize, c: usize, d: usize| m[a][c] * m[b][d] - m[a][d] * m[b][c];
        Self([
            [minor(1, 2, 1, 2), -minor(0, 2, 1, 2), minor(0, 1, 1, 2)],
            [-minor(1, 2, 0, 2), minor(0, 2, 0, 2), -minor(0, 1, 0, 2)],
            [minor(1, 2, 0, 1), -minor(0, 2, 0, 1), minor(0, 1, 0, 1)],
        ])
    }

    /// Returns the horizontal flip.
    #[must_use]
    pub fn flip() -> Self {
        Self::stretch((-1.0, 0.0), (1.0, 0.0))
    }

    /// Returns the rotation by an angle in degrees, clockwise as the image is seen.
    #[must_use]
    pub fn rotation(degrees: f64) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Self([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    }

    /// Returns the enlargement by `zoom` around a center, given as fractions of the width and height.
    #[must_use]
    pub fn zoom(zoom: f64, (x, y): (f64, f64)) -> Self {
        let s = 1.0 / zoom;
        let shift = |part: f64| (1.0 - s) * (2.0 * part - 1.0);
        Self::stretch((s, shift(x)), (s, shift(y)))
    }

    /// Returns one of the eight flips and rotations by 90°, in fastai's numbering of batch transforms; 0
    /// is the identity.
    #[must_use]
    pub fn dihedral(k: usize) -> Self {
        let k = k % 8;
        let x = [1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0][k];
        let y = [1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0][k];
        let straight = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0][k];
        let turned = 1.0 - straight;
        Self([[x * straight, x * turned, 0.0], [y * turned, y * straight, 0.0], [0.0, 0.0, 1.0]])
    }

    /// Returns the perspective that moves the corners of the image by `x` and `y`; exactly the identity
    /// if both are 0.
    #[must_use]
    pub fn perspective(x: f64, y: f64) -> Self {
        if (x, y) == (0.0, 0.0) {
            return Self::ONE;
        }
        let from = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)];
        let to =
            [(-1.0 - y, -1.0 - x), (-1.0 + y, 1.0 + x), (1.0 + y, -1.0 + x), (1.0 - y, 1.0 - x)];
        // Solve eight linear equations for the map that takes `to` to `from`.
        let mut rows = [[0.0; 9]; 8];
        for (i, ((fx, fy), (tx, ty))) in from.into_iter().zip(to).enumerate() {
            rows[2 * i] = [tx, ty, 1.0, 0.0, 0.0, 0.0, -fx * tx, -fx * ty, fx];
            rows[2 * i + 1] = [0.0, 0.0, 0.0, tx, ty, 1.0, -fy * tx, -fy * ty, fy];
        }
        let [a, b, c, d, e, f, g, h] = solve(rows);
        Self([[a, b, c], [d, e, f], [g, h, 1.0]])
    }

    /// Returns the shear of images of (width, height) around their upper left corner, for
    /// [`Plan::warp`](super::Plan::warp). Rows move by `x` pixels per row, columns by `y` pixels per
    /// column. Positive numbers move them to the left, or up.
    ///
    /// ```
    /// use finetune::transform::Matrix;
    ///
    /// // The lower left corner shows the position one height to the right of it.
    /// assert_eq!(Matrix::shear((1.0, 0.0), (200, 100)).at(-1.0, 1.0), (0.0, 1.0));
    /// ```
    #[must_use]
    pub fn shear((x, y): (f64, f64), (width, height): (u32, u32)) -> Self {
        let aspect = f64::from(height) / f64::from(width);
        let (x, y) = (x * aspect, y / aspect);
        Self([[1.0, x, x], [y, 1.0, y], [0.0, 0.0, 1.0]])
    }

    /// Returns the shift of images of (width, height) by pixels to the right and down, for
    /// [`Plan::warp`](super::Plan::warp).
    #[must_use]
    pub fn translation((x, y): (f64, f64), (width, height): (u32, u32)) -> Self {
        let shift = |pixels: f64, n: u32| (1.0, -2.0 * pixels / f64::from(n));
        Self::stretch(shift(x, width), shift(y, height))
    }

    /// Returns the [`rotation`](Self::rotation) of images of (width, height), for
    /// [`Plan::warp`](super::Plan::warp).
    pub(super) fn rotation_of(degrees: f64, size: (u32, u32)) -> Self {
        Self::rotation(degrees).with_aspect(size)
    }

    /// Returns the map that scales and shifts each axis, given as (scale, shift) for x and y.
    pub(super) fn stretch(x: (f64, f64), y: (f64, f64)) -> Self {
        Self([[x.0, 0.0, x.1], [0.0, y.0, y.1], [0.0, 0.0, 1.0]])
    }

    /// Returns the same map in coordinates where images of (width, height) span -1 to 1 in both
    /// directions.
    pub(super) fn with_aspect(&self, (width, height): (u32, u32)) -> Self {
        let (w, h) = (f64::from(width), f64::from(height));
        let mut m = *self;
        m.0[0][1] *= h / w;
        m.0[1][0] *= w / h;
        m
    }
}

/// Solves linear equations by Gaussian elimination with pivots. The last column is the right-hand side.
fn solve(mut rows: [[f64; 9]; 8]) -> [f64; 8] {
    for i in 0..8 {
        let pivot =
            (i..8).fold(i, |best, k| if rows[k][i].abs() > rows[best][i].abs() { k } else { best });
        rows.swap(i, pivot);
        let row = rows[i];
        for (k, other) in rows.iter_mut().enumerate() {
            if k != i {
                let factor = other[i] / row[i];
                for (o, r) in other.iter_mut().zip(row).skip(i) {
                    *o -= factor * r;
                }
            }
        }
    }
    std::array::from_fn(|i| rows[i][8] / rows[i][i])
}
