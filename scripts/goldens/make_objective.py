#!/usr/bin/env python3
"""Makes tests/objective/goldens/objective.json: the objective written once more, independently, in plain torch.

    .venv/bin/python scripts/goldens/make_objective.py

"released" follows the semantics of the authors' program (trainer/ddp_robotic_trainer.py, commit f16f05f), in float32:
sums over label tokens, the last token left out of undesirable rewards and of the KL baseline, labels shifted by one
sample, weights (l + 1e-4) / (sum l + 1e-4), a sum over the batch. "paper" follows docs/objective.md in float64.
Every case stores its options, inputs, loss, intermediate results and the gradient of the policy's logits.
"""
import json
import math
import pathlib

import torch

SAMPLES, TOKENS, VOCABULARY = 6, 4, 9
FIRST_BIN, LAST_BIN = 2, 8  # id 0 is the end token
RELEASED = {"type": "apo", "compatibility": "released-code"}
WHOLE_BATCH = {"group_size": 0}


def make_input(seed, desirable):
    random = torch.Generator().manual_seed(seed)
    batch = len(desirable)

    def logits():
        return torch.randn(batch, TOKENS, VOCABULARY, generator=random) * 3

    tokens = torch.randint(FIRST_BIN, LAST_BIN + 1, (batch, TOKENS), generator=random)
    tokens[:, -1] = 0
    policy = logits()
    return {
        "policy_logits": policy,
        "reference_logits": policy + 0.5 * logits(),
        "tokens": tokens,
        "desirable": torch.tensor(desirable),
        "held": torch.tensor(desirable) & (torch.arange(batch) % 3 != 0),
        "action_l1": torch.rand(batch, generator=random) * 0.4,
        "dimension_credit": torch.rand(batch, TOKENS, generator=random),
        "mismatched_policy_logits": logits(),
        "mismatched_reference_logits": logits(),
    }


def released_code(x, policy_logits):
    labels, shifted, good = x["tokens"], torch.roll(x["tokens"], -1, 0), x["desirable"]

    def log_probs(logits, label):
        return torch.gather(logits.float().log_softmax(-1), 2, label.unsqueeze(2)).squeeze(2)

    policy, reference = log_probs(policy_logits, labels), log_probs(x["reference_logits"], labels)
    kl = log_probs(policy_logits, shifted)[:, :-1].sum(-1) - log_probs(x["reference_logits"], shifted)[:, :-1].sum(-1)
    unclamped = kl.detach().mean()
    z0 = unclamped.clamp(min=-5, max=5)
    reward_good = policy[good].sum(-1) - reference[good].sum(-1)
    reward_bad = policy[~good][:, :-1].sum(-1) - reference[~good][:, :-1].sum(-1)
    loss_good = 1 - torch.sigmoid(0.1 * (reward_good - z0))
    loss_bad = 1 - torch.sigmoid(0.1 * (z0 - reward_bad))

    def weight(l1):
        return (l1 + 1e-4) / (l1.sum() + 1e-4)

    lambda_good = 1 - torch.exp(-weight(x["action_l1"][good]))
    lambda_bad = torch.exp(-weight(x["action_l1"][~good]))
    loss = (lambda_good * loss_good).sum() + (lambda_bad * loss_bad).sum()
    reward, lam, sample_loss = torch.zeros(len(good)), torch.zeros(len(good)), torch.zeros(len(good))
    reward[good], reward[~good] = reward_good.detach(), reward_bad.detach()
    lam[good], lam[~good] = lambda_good, lambda_bad
    sample_loss[good], sample_loss[~good] = loss_good.detach(), loss_bad.detach()
    return loss, dict(z0=z0, z0_unclamped=unclamped, reward=reward, sample_loss=sample_loss, **{"lambda": lam})


def paper(x, policy_logits, options):
    """Written sample by sample and token by token, unlike the library."""
    sigma, beta = options.get("label_smoothing_bins", 0.0), options.get("beta", 0.1)
    kind, estimator = options["type"], options.get("z0", "shifted-labels")
    robust = kind in ("apo", "kto") and options.get("preset", "robust") == "robust"
    reduction, anchor = options.get("reduction", "mean" if robust else "sum"), options.get("sft_weight", 1 if robust else 0)
    hold = options.get("reference_kl_weight", 3 if robust else 0)
    batch = len(x["desirable"])

    def label(token):
        q = torch.zeros(VOCABULARY, dtype=torch.float64)
        if sigma > 0 and FIRST_BIN <= token <= LAST_BIN:
            for v in range(FIRST_BIN, LAST_BIN + 1):
                if abs(v - token) <= math.ceil(6 * sigma):
                    q[v] = math.exp(-((v - token) ** 2) / (2 * sigma**2))
            return q / q.sum()
        q[token] = 1
        return q

    def token_score(logits, token):
        return (label(int(token)) * (logits - torch.logsumexp(logits, 0))).sum()

    def reference_kl():
        """Mean over the held samples' tokens of KL(reference || policy)."""
        held, total = [i for i in range(batch) if x["held"][i]], 0
        for i in held:
            for t in range(TOKENS):
                p_ref = reference_logits[i, t].softmax(0)
                total = total + sum(p_ref[v] * (p_ref[v].log() - policy_logits[i, t].log_softmax(0)[v]) for v in range(VOCABULARY))
        return total / max(len(held) * TOKENS, 1)

    reference_logits = x["reference_logits"].double()
    policy = [[token_score(policy_logits[i, t], x["tokens"][i, t]) for t in range(TOKENS)] for i in range(batch)]
    if kind in ("sft", "weighted-bc"):
        good = [i for i in range(batch) if x["desirable"][i]]
        loss = -sum(policy[i][t] for i in good for t in range(TOKENS)) / (len(good) * TOKENS)
        return loss + hold * reference_kl(), {}
    reference = [[token_score(reference_logits[i, t], x["tokens"][i, t]) for t in range(TOKENS)] for i in range(batch)]

    kl = torch.zeros((), dtype=torch.float64)
    for i in range(batch):
        for t in range(TOKENS):
            other = x["tokens"][(i + 1) % batch, t]
            if estimator == "shifted-labels":
                kl += (token_score(policy_logits[i, t], other) - token_score(reference_logits[i, t], other)).detach()
            elif estimator == "mismatched":
                kl += token_score(x["mismatched_policy_logits"].double()[i, t], other)
                kl -= token_score(x["mismatched_reference_logits"].double()[i, t], other)
            elif estimator == "exact":
                p = policy_logits[i, t].detach().softmax(0)
                kl += (p * (p.log() - reference_logits[i, t].softmax(0).log())).sum()
    kl /= batch
    z0 = kl.clamp(min=0) if kind == "kto" else kl.clamp(options.get("kl_min", -5.0), options.get("kl_max", 5.0))

    weights, loss = options.get("weights", {}), 0
    rewards, lambdas, losses = [], [], []
    for i in range(batch):
        good = bool(x["desirable"][i])
        group = [j for j in range(batch) if bool(x["desirable"][j]) == good]
        credit = x["dimension_credit"].double()[i] if options.get("credit") == "dimension" and not good else torch.ones(TOKENS)
        reward = sum(float(credit[t]) * (policy[i][t] - reference[i][t].detach()) for t in range(TOKENS))
        w = float(x["action_l1"][i]) / sum(float(x["action_l1"][j]) for j in group)
        if weights.get("normalization") == "mean":
            w *= len(group)
        elif weights.get("group_size", 8) > 0:
            w *= batch / weights.get("group_size", 8)
        lam = 1 - math.exp(-weights.get("eta_desirable", 1) * w) if good else math.exp(-weights.get("eta_undesirable", 1) * w)
        if kind == "kto" or weights.get("type") == "uniform":
            lam = 1.0
        value = torch.sigmoid(beta * (reward - z0)) if good else torch.sigmoid(beta * (z0 - reward))
        loss = loss + lam * (1 - value)
        rewards.append(float(reward.detach())), lambdas.append(lam), losses.append(1 - float(value.detach()))
    loss = loss / batch
    if anchor:
        good = [i for i in range(batch) if x["desirable"][i]]
        loss = loss - anchor * sum(policy[i][t] for i in good for t in range(TOKENS)) / (len(good) * TOKENS)
    loss = loss + hold * reference_kl()
    if reduction == "sum":
        loss = loss * batch
    return loss, dict(z0=z0, z0_unclamped=kl, reward=rewards, sample_loss=losses, **{"lambda": lambdas})


def listed(value):
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype == torch.float32:  # nine digits hold a float32 exactly
        flat = [float(f"{v:.9g}") for v in value.flatten().tolist()]
    else:
        flat = (value.int() if value.dtype == torch.bool else value).flatten().tolist()
    return flat[0] if value.dim() == 0 else flat


def main():
    mixed, lonely, good_only = [1, 1, 0, 1, 0, 1], [1, 1, 0], [1, 1, 1]
    refined = {"type": "apo", "z0": "exact", "beta": 0.5, "reduction": "mean", "sft_weight": 0.2, "credit": "dimension",
               "label_smoothing_bins": 1.5, "weights": {"normalization": "mean", "eta_desirable": 4.0}}
    plan = [("released code, mixed batch", RELEASED, 1, mixed),
            ("released code, one undesirable sample", RELEASED, 2, lonely),
            ("released code, no undesirable sample", RELEASED, 3, good_only),
            ("paper", {"type": "apo", "preset": "paper", "weights": WHOLE_BATCH}, 4, mixed),
            ("paper with every refinement", refined, 5, mixed),
            ("uniform weights, clamped baseline", {"type": "apo", "preset": "paper", "kl_min": -0.25, "kl_max": 0.25,
                                                   "weights": {"type": "uniform"}}, 6, mixed),
            ("kto", {"type": "kto", "preset": "paper", "z0": "mismatched", "reduction": "mean"}, 7, mixed),
            ("sft with smooth labels", {"type": "sft", "label_smoothing_bins": 1.0}, 8, mixed),
            ("robust", {"type": "apo"}, 9, mixed),
            ("paper in groups of 8", {"type": "apo", "preset": "paper"}, 10, mixed),
            ("anchored sum in groups of 4", {"type": "apo", "reduction": "sum", "weights": {"group_size": 4}}, 11, mixed),
            ("robust kto", {"type": "kto", "z0": "exact"}, 12, mixed),
            ("anchored alone", {"type": "apo", "reference_kl_weight": 0}, 13, mixed),
            ("held sft", {"type": "sft", "reference_kl_weight": 0.7}, 14, mixed)]
    cases = []
    for name, options, seed, desirable in plan:
        x = make_input(seed, [bool(d) for d in desirable])
        exact = options is not RELEASED
        policy = (x["policy_logits"].double() if exact else x["policy_logits"].clone()).requires_grad_()
        loss, expected = paper(x, policy, options) if exact else released_code(x, policy)
        loss.backward()
        used = dict(x)
        if options.get("z0") != "mismatched":
            del used["mismatched_policy_logits"], used["mismatched_reference_logits"]
        cases.append({"name": name, "options": options, "samples": len(desirable),
                      "input": {k: listed(v) for k, v in used.items()},
                      "expected": {"loss": listed(loss.detach()), "policy_logits_gradient": listed(policy.grad),
                                   **{k: listed(v) for k, v in expected.items()}}})
    made = {"made_by": "scripts/goldens/make_objective.py", "torch": torch.__version__, "tokens": TOKENS,
            "vocabulary": VOCABULARY, "first_action_token": FIRST_BIN, "last_action_token": LAST_BIN, "cases": cases}
    path = pathlib.Path(__file__).parents[2] / "tests/objective/goldens/objective.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
