//! Where the time of a pass goes: a backend that times each operation of the CPU's.

use std::cell::RefCell;
use std::time::Instant;

use candle_core::Tensor;

use super::backend::Backend;
use super::cpu::Cpu;
use super::layout::Plane;
use super::parameters::{
    Addends, AttentionGrad, AttentionInput, Filter, GegluCall, GroupNormParameters, InputGrads,
    LayerNormParameters, LinearCall,
};
use crate::Result;

/// The time of one kind of operation.
#[derive(Debug, Clone, Default)]
pub struct Share {
    /// What was done.
    pub kind: &'static str,
    /// How often.
    pub calls: usize,
    /// By the clock, of all threads together.
    pub seconds: f64,
    /// Products and sums of the definition, whatever the kernel makes of it.
    pub operations: f64,
}

thread_local! {
    static SHARES: RefCell<Option<Vec<Share>>> = const { RefCell::new(None) };
}

/// Calls `f`, and says where the time of the layers that this thread runs went.
pub fn profile<R>(f: impl FnOnce() -> R) -> (R, Vec<Share>) {
    SHARES.set(Some(Vec::new()));
    let result = f();
    (result, SHARES.take().unwrap_or_default())
}

/// Whether [`profile`] is running on this thread.
pub(super) fn running() -> bool {
    SHARES.with_borrow(Option::is_some)
}

fn timed<R>(kind: &'static str, operations: usize, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    let seconds = start.elapsed().as_secs_f64();
    SHARES.with_borrow_mut(|shares| {
        let shares = shares.get_or_insert_default();
        let at = shares.iter().position(|share| share.kind == kind);
        let at = at.unwrap_or_else(|| {
            shares.push(Share {
                kind,
                ..Share::default()
            });
            shares.len() - 1
        });
        let share = &mut shares[at];
        share.calls += 1;
        share.seconds += seconds;
        share.operations += operations as f64;
    });
    result
}

/// The CPU's backend, timed.
pub(super) struct Timed;

impl Timed {
    fn conv_kind(filter: &Filter, kinds: [&'static str; 2]) -> &'static str {
        kinds[usize::from((filter.k, filter.stride) != (3, 1))]
    }

    fn attention_operations(input: AttentionInput) -> usize {
        2 * input.q.elem_count() * input.k.dims()[1]
    }
}

/// Of one product with all of a weight for each of so many outputs.
fn products(weight: (usize, usize), outputs: usize) -> usize {
    2 * weight.1 * outputs
}

impl Backend for Timed {
    fn gelu(&self, x: &Tensor) -> Result<Tensor> {
        timed("activation", 0, || Cpu.gelu(x))
    }

    fn quick_gelu(&self, x: &Tensor) -> Result<Tensor> {
        timed("activation", 0, || Cpu.quick_gelu(x))
    }

    fn linear(&self, call: LinearCall) -> Result<Tensor> {
        let (rows, columns) = call.weight.shape();
        let widths = call.direction.widths((rows, columns));
        let operations = 2 * widths.output * call.x.elem_count();
        timed("linear", operations, || Cpu.linear(call))
    }

    fn geglu(&self, call: GegluCall) -> Result<Tensor> {
        let operations = 2 * call.weight.shape().0 * call.x.elem_count();
        timed("linear with GEGLU", operations, || Cpu.geglu(call))
    }

    fn geglu_gradient(&self, call: GegluCall, grad: &Tensor) -> Result<Tensor> {
        let operations = 2 * call.weight.shape().0 * call.x.elem_count();
        let run = || Cpu.geglu_gradient(call, grad);
        timed("linear with GEGLU, backward", operations, run)
    }

    fn weight_gradient(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let operations = 2 * x.elem_count() * grad.dims().last().copied().unwrap_or(0);
        timed("weight gradient", operations, || {
            Cpu.weight_gradient(x, grad)
        })
    }

    fn conv(&self, filter: &Filter, x: &Tensor, seen: Plane, addends: Addends) -> Result<Tensor> {
        let kind = Self::conv_kind(filter, ["convolution 3 x 3", "other convolution"]);
        let outputs = x.dims()[0] * filter.channels().output * seen.pixels();
        let outputs = outputs / (filter.stride * filter.stride);
        let operations = products(filter.weight.shape(), outputs);
        timed(kind, operations, || Cpu.conv(filter, x, seen, addends))
    }

    fn conv_backward(
        &self,
        filter: &Filter,
        grad: &Tensor,
        stored: Plane,
        seen: Plane,
    ) -> Result<Tensor> {
        let kinds = ["convolution 3 x 3, backward", "other convolution, backward"];
        let operations = products(filter.weight.shape(), grad.elem_count());
        let run = || Cpu.conv_backward(filter, grad, stored, seen);
        timed(Self::conv_kind(filter, kinds), operations, run)
    }

    fn group_norm(&self, norm: &GroupNormParameters, x: &Tensor) -> Result<Tensor> {
        timed("group norm", 0, || Cpu.group_norm(norm, x))
    }

    fn group_norm_backward(
        &self,
        norm: &GroupNormParameters,
        x: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let run = || Cpu.group_norm_backward(norm, x, grad);
        timed("group norm, backward", 0, run)
    }

    fn layer_norm(&self, norm: &LayerNormParameters, x: &Tensor) -> Result<Tensor> {
        timed("layer norm", 0, || Cpu.layer_norm(norm, x))
    }

    fn layer_norm_backward(
        &self,
        norm: &LayerNormParameters,
        x: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let run = || Cpu.layer_norm_backward(norm, x, grad);
        timed("layer norm, backward", 0, run)
    }

    fn attention(&self, input: AttentionInput) -> Result<Tensor> {
        let operations = 2 * Self::attention_operations(input);
        timed("attention", operations, || Cpu.attention(input))
    }

    fn attention_backward(&self, input: AttentionInput, grad: AttentionGrad) -> Result<InputGrads> {
        let operations = 5 * Self::attention_operations(input);
        let run = || Cpu.attention_backward(input, grad);
        timed("attention, backward", operations, run)
    }
}
