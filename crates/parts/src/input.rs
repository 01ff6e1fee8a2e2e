use crate::Transform;
use brevity_kernels::integer::Activations;
use brevity_kernels::{Matrix, MatrixView};
use std::cell::OnceCell;

/// How the input of a multiplication with integer codes is represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// 8-bit codes with one f32 scale per 32 values of a row; costs about 0.005 bit a token, several times faster.
    #[default]
    Int8,
    /// As they are; weights are widened to f32. For measurements below 0.01 bit.
    F32,
}

/// The input of one or several matrices: rows of activations, quantised at most once.
///
/// Shape: `rows × cols`, one row a token. Matrices that read the same input (q, k and v; gate and up) share one `Input`.
pub struct Input<'a> {
    rows: Rows<'a>,
    activation: Activation,
    quantized: OnceCell<Activations>,
    transformed: OnceCell<(Transform, Box<Input<'static>>)>,
}

enum Rows<'a> {
    Borrowed(MatrixView<'a>),
    Owned(Matrix),
}

impl<'a> Input<'a> {
    pub fn new(view: MatrixView<'a>, activation: Activation) -> Self {
        Self::of(Rows::Borrowed(view), activation)
    }

    fn of(rows: Rows<'a>, activation: Activation) -> Self {
        Self { rows, activation, quantized: OnceCell::new(), transformed: OnceCell::new() }
    }

    pub fn view(&self) -> MatrixView<'_> {
        match &self.rows {
            Rows::Borrowed(view) => *view,
            Rows::Owned(matrix) => matrix.view(),
        }
    }

    pub fn rows(&self) -> usize {
        self.view().rows()
    }

    pub fn cols(&self) -> usize {
        self.view().cols()
    }

    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The 8-bit form, made when first asked for.
    pub fn quantized(&self) -> &Activations {
        self.quantized.get_or_init(|| Activations::quantize(self.view()))
    }

    /// Gives `use_it` the input behind a transform. The first transform that is asked for is kept, for the other matrices
    /// that read this input.
    pub(crate) fn with_transformed(&self, transform: &Transform, use_it: impl FnOnce(&Input)) {
        let (kept, input) = self.transformed.get_or_init(|| (transform.clone(), Box::new(self.transform(transform))));
        if kept == transform { use_it(input) } else { use_it(&self.transform(transform)) }
    }

    /// An owned copy of the rows.
    pub(crate) fn to_matrix(&self) -> Matrix {
        let mut copy = Matrix::zeros(self.rows(), self.cols());
        for row in 0..self.rows() {
            copy.row_mut(row).copy_from_slice(self.view().row(row));
        }
        copy
    }

    fn transform(&self, transform: &Transform) -> Input<'static> {
        let mut copy = self.to_matrix();
        transform.apply(&mut copy);
        Input::of(Rows::Owned(copy), self.activation)
    }
}
