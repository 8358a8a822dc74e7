// model/loss.rs: the loss of one sample with logits `z`, and dL/dz in `g`. `at` is the sample's place in `targets`.
fn loss_gradient(kind: u32, z: ptr<function, array<f32, C>>, at: u32, g: ptr<function, array<f32, C>>) -> f32 {
    if (kind == 0u) {
        var peak = (*z)[0];
        for (var c = 1u; c < C; c++) {
            peak = select(peak, (*z)[c], (*z)[c] > peak);
        }
        var total = 0.0;
        for (var c = 0u; c < C; c++) {
            // exp of very negative numbers is not safe on every driver; select() and not max(), to let a NaN through.
            let below = (*z)[c] - peak;
            let e = select(exp(below), 0.0, below < -87.0);
            (*g)[c] = e;
            total += e;
        }
        let log_total = log(total) + peak;
        var loss = 0.0;
        for (var c = 0u; c < C; c++) {
            let q = targets[at + c];
            (*g)[c] = (*g)[c] / total - q;
            // 0 times an overflowed difference would be NaN.
            loss += select(q * (log_total - (*z)[c]), 0.0, q == 0.0);
        }
        return loss;
    }
    let t = targets[at];
    let margin = (*z)[1] - (*z)[0];
    if (kind == 1u) {
        let slack = 1.0 - t * margin;
        let slope = select(0.0, -t, slack > 0.0);
        (*g)[0] = -slope;
        (*g)[1] = slope;
        return select(slack, 0.0, slack <= 0.0);
    }
    (*g)[0] = t;
    (*g)[1] = -t;
    return -t * margin;
}
