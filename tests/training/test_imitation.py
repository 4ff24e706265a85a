import pytest
import torch

from ulcompress.autoencoders import TinyAutoencoder
from ulcompress.training import ImitationLoss, ImitationModule, ScheduledOptimizer

SIZES = {"width": 8, "blocks": (1, 1, 1)}


def module(**options):
    torch.manual_seed(0)
    student, teacher = TinyAutoencoder(**SIZES), TinyAutoencoder(**SIZES)
    return ImitationModule(autoencoder=student, teacher=teacher, **options)


@torch.no_grad()
def decoded_difference(trained, images):
    latent = trained.teacher.encode(images)
    return float((trained.autoencoder.decode(latent) - trained.teacher.decode(latent)).square().mean())


def test_a_student_that_is_the_teacher_has_no_loss(one_thread):
    trained = module()
    trained.autoencoder.load_state_dict(trained.teacher.state_dict())
    assert all(value == 0 for value in trained.terms(torch.rand(2, 3, 16, 16)).values())


def test_the_student_alone_learns_and_comes_nearer(one_thread):
    trained = module(optimizer=ScheduledOptimizer(learning_rate=5e-3))
    before = {name: value.clone() for name, value in trained.teacher.state_dict().items()}
    assert {name.partition(".")[0] for name in trained.trained_parameters()} == {"autoencoder"}
    assert trained.autoencoder.training and not trained.teacher.training
    optimizer, images = trained.configure_optimizers()["optimizer"], torch.rand(4, 3, 16, 16)
    losses = []
    for _ in range(60):
        losses.append(trained.loss.total(trained.terms(images), 0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in trained.teacher.state_dict().items())


def test_pictures_are_of_noisy_latents_too(one_thread):
    torch.manual_seed(1)
    seen = []
    trained = module(noise=0.5)
    trained.teacher.decode = lambda latent: seen.append(latent) or torch.zeros(len(latent), 3, 16, 16)
    images = torch.rand(2, 3, 16, 16)
    trained.terms(images)
    off = (seen[0] - trained.teacher.encode(images)).flatten(1).std(1)
    assert (off > 0.01).all() and (off < 0.7).all() and off[0] != off[1]


def test_latents_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"the same channels and stride, got \[\(4, 4\), \(4, 2\)\]"):
        ImitationModule(autoencoder=TinyAutoencoder(**SIZES), teacher=TinyAutoencoder(width=8, blocks=(1, 1)))


def test_weights_of_unknown_terms_are_refused():
    with pytest.raises(ValueError, match="no loss term 'kl'"):
        ImitationLoss(weights={"kl": 1.0})


def test_stages_alone_teach_the_student_to_decode_like_the_teacher(one_thread):
    loss = ImitationLoss(weights={"stages": 1.0, "latent": 0.0, "picture": 0.0})
    trained = module(loss=loss, optimizer=ScheduledOptimizer(learning_rate=1e-2))
    optimizer, images = trained.configure_optimizers()["optimizer"], torch.rand(4, 3, 32, 32)
    before = decoded_difference(trained, images)
    for _ in range(80):
        terms = trained.terms(images)
        assert set(terms) == {"stages"}  # nothing is computed that has no weight
        optimizer.zero_grad()
        trained.loss.total(terms, 0).backward()
        optimizer.step()
    assert decoded_difference(trained, images) < 0.1 * before
    assert set(trained.eval().terms(images)) == {"stages", "latent", "picture"}


def test_a_student_that_is_the_teacher_has_no_difference_in_any_stage(one_thread):
    trained = module(loss=ImitationLoss(weights={"stages": 1.0}))
    trained.autoencoder.load_state_dict(trained.teacher.state_dict())
    assert trained.terms(torch.rand(2, 3, 32, 32))["stages"] == 0


def test_pictures_are_compared_from_the_step_on_at_which_a_term_of_theirs_counts():
    loss = ImitationLoss(weights={"stages": 1.0, "latent": 0.0, "picture": 1.0}, delays={"picture": 5})
    assert [loss.compares_pictures(step) for step in (0, 4, 5)] == [False, False, True]


def test_stages_of_another_student_are_refused():
    narrow = TinyAutoencoder(width=4, blocks=(1, 1, 1))
    with pytest.raises(ValueError, match="needs a student with the layers of the teacher"):
        ImitationModule(
            autoencoder=narrow, teacher=TinyAutoencoder(**SIZES), loss=ImitationLoss(weights={"stages": 1.0})
        )
