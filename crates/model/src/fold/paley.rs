//! Hadamard matrices whose order is no power of two, by Paley's constructions ("On Orthogonal Matrices", 1933).
//!
//! With `q` prime and `χ(k)` = 1 for squares modulo q, −1 for others, 0 for 0, the Jacobsthal matrix is `J_ij = χ(i − j)`. Then,
//! with `S` = `J` bordered by ones (the border's column −1 if q ≡ 3 mod 4) and a 0 in the corner,
//!
//! - q ≡ 3 (mod 4): `I + S` is a Hadamard matrix of order q + 1: 4, 8, 12, 20, 24, 32, 44, …
//! - q ≡ 1 (mod 4): `S ⊗ [1 1; 1 −1] + I ⊗ [1 −1; −1 −1]` is one of order 2·(q + 1): 12, 28, 36, 60, …

/// A matrix of ±1 with orthogonal rows, row after row; `None` where these constructions have none of this order.
pub fn hadamard(order: usize) -> Option<Vec<i8>> {
    if let Some(q) = order.checked_sub(1).filter(|q| q % 4 == 3 && is_prime(*q)) {
        let mut matrix = conference(q, -1);
        (0..order).for_each(|i| matrix[i * order + i] = 1);
        return Some(matrix);
    }
    let q = (order.is_multiple_of(2)).then(|| (order / 2).checked_sub(1)).flatten()?;
    if q % 4 != 1 || !is_prime(q) {
        return None;
    }
    let (half, s) = (order / 2, conference(q, 1));
    let mut matrix = vec![0; order * order];
    for (i, row) in s.chunks_exact(half).enumerate() {
        for (j, &entry) in row.iter().enumerate() {
            let block = if entry == 0 { [1, -1, -1, -1] } else { [entry, entry, entry, -entry] };
            for (k, value) in block.into_iter().enumerate() {
                matrix[(2 * i + k / 2) * order + 2 * j + k % 2] = value;
            }
        }
    }
    Some(matrix)
}

/// `S`: zeros on the diagonal, ±1 elsewhere.
fn conference(q: usize, border: i8) -> Vec<i8> {
    let mut character = vec![-1i8; q];
    (1..q).for_each(|i| character[i * i % q] = 1);
    character[0] = 0;
    let entry = |i: usize, j: usize| match (i, j) {
        (0, 0) => 0,
        (0, _) => 1,
        (_, 0) => border,
        _ => character[(i + q - j) % q],
    };
    (0..=q).flat_map(|i| (0..=q).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect()
}

fn is_prime(n: usize) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_orthogonal() {
        let orders: Vec<usize> = (1..=76).filter(|&order| hadamard(order).is_some()).collect();
        for wanted in [12, 20, 28, 36, 44, 60, 68, 76] {
            assert!(orders.contains(&wanted), "{wanted}");
        }
        for order in orders {
            let matrix = hadamard(order).unwrap();
            assert!(matrix.iter().all(|entry| entry.abs() == 1));
            for (i, a) in matrix.chunks_exact(order).enumerate() {
                for (j, b) in matrix.chunks_exact(order).enumerate() {
                    let dot: i32 = a.iter().zip(b).map(|(a, b)| i32::from(a * b)).sum();
                    assert_eq!(dot, if i == j { order as i32 } else { 0 }, "{order}: {i} {j}");
                }
            }
        }
        assert_eq!((hadamard(0), hadamard(3), hadamard(9)), (None, None, None));
    }
}
