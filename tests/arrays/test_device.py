"""Embeddings on a device give what the same embeddings in an array give."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import clip_al
from clip_al.arrays.device import device_of, keep_on
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.score.alignment_diversity import label_log_probabilities

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
N, D, K, V = 300, 16, 3, 40


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    T = rng.standard_normal((K, D))
    y = rng.integers(K, size=N)
    Z = (T[y] + 0.8 * rng.standard_normal((N, D))).astype(np.float32)
    Z[7] = Z[3]  # identical images are at distance 0
    return Z, y, T


@pytest.fixture
def vocabulary():
    names = [f"concept {i}" for i in range(V)]
    embeddings = np.random.default_rng(1).standard_normal((V, D))
    return clip_al.ConceptVocabulary.from_names(names).with_embeddings(embeddings)


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.mark.parametrize("of_tensor", [False, True])
def test_profiles_equal(data, vocabulary, device, of_tensor):
    Z = data[0]
    given = torch.from_numpy(Z).to(device) if of_tensor else Z
    on_device = clip_al.DeviceEmbeddings(given, device)
    expected = clip_al.ConceptProfiles.from_embeddings(Z, vocabulary, 5)
    got = clip_al.ConceptProfiles.from_embeddings(on_device, vocabulary, 5)
    np.testing.assert_array_equal(got.ids, expected.ids)
    np.testing.assert_allclose(got.similarities, expected.similarities, atol=1e-4)


@pytest.mark.parametrize("alignment", ["cosine", "contrastive"])
@pytest.mark.parametrize("adapted", [False, True])
def test_alignment_equals(data, device, alignment, adapted):
    Z, y, T = data
    adapter = clip_al.DatasetAdapter(epochs=2, device=device).fit(Z, y, T) if adapted else None
    on_device = clip_al.DeviceEmbeddings(Z, device)
    expected, got = (
        clip_al.scores.semantic_alignment_scores(rows, y, T, alignment=alignment, adapter=adapter)
        for rows in (Z, on_device)
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_likeliest_class_is_the_first_of_ties(device):
    Z = clip_al.DeviceEmbeddings([[1.0, 1.0], [0.0, 1.0]], device)
    log_prob_n, likeliest_n = label_log_probabilities(Z, [1, 1], np.eye(2))
    assert likeliest_n.tolist() == [0, 1]
    np.testing.assert_allclose(log_prob_n, [np.log(0.5), 0.0], atol=1e-6)


@pytest.mark.parametrize("k", [0.1, 4])
@pytest.mark.parametrize("exact_up_to", [None, 40])
def test_diversity_equals(data, device, k, exact_up_to):
    Z, y, _ = data
    expected, got = (
        clip_al.scores.sample_diversity_scores(rows, y, k, exact_up_to=exact_up_to)
        for rows in (Z, clip_al.DeviceEmbeddings(Z, device))
    )
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_identical_images_are_at_distance_0(device):
    rows = np.random.default_rng(3).standard_normal((1, D))
    on_device = clip_al.DeviceEmbeddings(np.repeat(rows, 4, axis=0), device, dtype="float16")
    assert not clip_al.neighbors.mean_neighbour_distances(on_device, 2).any()


def test_prototypes_noise_and_graph_equal(data, device):
    Z, y, T = data
    on_device = clip_al.DeviceEmbeddings(Z, device)
    np.testing.assert_allclose(
        clip_al.scores.class_prototypes(on_device, y, K),
        clip_al.scores.class_prototypes(Z, y, K),
        atol=1e-6,
    )
    expected = clip_al.estimate_label_noise(Z, y, T)
    got = clip_al.estimate_label_noise(on_device, y, T)
    assert got.wrong_fraction == pytest.approx(expected.wrong_fraction, abs=1e-4)
    graph = clip_al.neighbors.neighbour_graph(on_device, y, K, 3)
    expected_graph = clip_al.neighbors.neighbour_graph(Z, y, K, 3)
    np.testing.assert_array_equal(graph.indices, expected_graph.indices)


def test_adapter_trains_on_it(data, device):
    Z, y, T = data
    settings = {"epochs": 2, "device": device}
    expected = clip_al.DatasetAdapter(**settings).fit(Z, y, T)
    got = clip_al.DatasetAdapter(**settings).fit(clip_al.DeviceEmbeddings(Z, device), y, T)
    np.testing.assert_allclose(
        got.transform_images(Z), expected.transform_images(Z), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("adapter", [False, True, "cross-fit"])
def test_selector_chooses_the_same(data, device, adapter):
    Z, y, T = data
    if adapter == "cross-fit":
        adapter = clip_al.CrossFitAdapter(clip_al.DatasetAdapter(epochs=1, device=device))
    elif adapter:
        adapter = clip_al.DatasetAdapter(epochs=1, device=device)
    settings = {"class_embeddings": T, "adapter": adapter, "redundancy": 0.1}
    expected, got = (
        clip_al.ClipSelector(0.3, **settings).fit_select(rows, y)
        for rows in (Z, clip_al.DeviceEmbeddings(Z, device))
    )
    np.testing.assert_array_equal(got.indices, expected.indices)


def test_strategies_pick_the_same(data, vocabulary, device):
    Z, _, T = data
    P = np.random.default_rng(2).dirichlet(np.ones(K), size=N)
    on_device = clip_al.DeviceEmbeddings(Z, device)
    hybrid = clip_al.CBDMarginSampling(vocabulary)
    np.testing.assert_array_equal(
        hybrid.select(on_device, 10, probabilities=P), hybrid.select(Z, 10, probabilities=P)
    )
    cold = clip_al.CBDSampling(vocabulary)
    np.testing.assert_array_equal(cold.select(on_device, 10), cold.select(Z, 10))
    aligned = clip_al.AlignmentDiversitySampling(T)
    np.testing.assert_array_equal(aligned.select(on_device, 10), aligned.select(Z, 10))


@pytest.fixture(scope="module")
def real(mini):
    """Embeddings of 400 digits, and every fourth concept: the whole takes seconds to encode."""
    images = (load_digits().images[:400] * 255 / 16).astype(np.uint8)
    names = clip_al.ConceptVocabulary.load("general").names[::4]
    return mini.encode_images(images), clip_al.ConceptVocabulary.from_names(names).encode(mini)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_the_bytes_keep_the_ranking_nearly(real, dtype):
    Z, vocabulary = real
    full = clip_al.ConceptProfiles.from_embeddings(Z, vocabulary)
    half = clip_al.ConceptProfiles.from_embeddings(
        clip_al.DeviceEmbeddings(Z, "cpu", dtype=dtype), vocabulary, statistics=full.statistics
    )
    shared = [len(set(a) & set(b)) for a, b in zip(full.ids, half.ids, strict=True)]
    assert np.mean(shared) > (9.9 if dtype == "float16" else 9.5)


def test_a_tensor_of_the_right_type_is_shared():
    rows = torch.randn(5, 4)
    kept = clip_al.DeviceEmbeddings(rows)
    assert kept.tensor.data_ptr() == rows.data_ptr()
    assert kept.subset(slice(1, 3)).tensor.data_ptr() == rows[1].data_ptr()
    assert repr(kept) == "DeviceEmbeddings(5 × 4, torch.float32, cpu)"


def test_rows_are_read_as_unit_rows():
    kept = clip_al.DeviceEmbeddings(3 * np.eye(4), "cpu", dtype="bfloat16")
    np.testing.assert_array_equal(kept[np.array([2, 0])], np.eye(4)[[2, 0]])
    assert len(kept) == 4
    assert kept.shape == (4, 4)


def test_a_table_keeps_its_names_and_model(mini, tmp_path):
    images = (load_digits().images[:20] * 255 / 16).astype(np.uint8)
    table = clip_al.EmbeddingTable.create(tmp_path / "t", images, mini)
    kept = clip_al.DeviceEmbeddings(table, "cpu")
    assert list(kept.ids) == list(table.ids)
    assert kept.model_id == table.model_id
    foreign = clip_al.ConceptVocabulary.from_names(["a", "b"]).with_embeddings(
        np.eye(2, table.shape[1]), model="another"
    )
    with pytest.raises(clip_al.errors.ModelMismatchError, match="another"):
        clip_al.ConceptProfiles.from_embeddings(kept, foreign, 1)


@pytest.mark.parametrize(
    ("Z", "message"),
    [
        (torch.zeros(0, 4), "not empty"),
        (torch.zeros(4), "must be 2-D"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "row 1 has length 0"),
        (torch.tensor([[1.0, float("nan")]]), "row 0 has length nan"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "row 1 is all zeros"),
        (np.array([[1.0, np.inf]]), "row"),
    ],
)
def test_bad_rows(Z, message):
    with pytest.raises(InvalidInputError, match=message):
        clip_al.DeviceEmbeddings(Z, "cpu")


def test_bad_types_and_devices(data):
    Z, y, _ = data
    with pytest.raises(InvalidTypeError, match=r"must be one of .*; got torch.int64"):
        clip_al.DeviceEmbeddings(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match="`dtype` must be one of"):
        clip_al.DeviceEmbeddings(Z, "cpu", dtype="float8")
    kept = clip_al.DeviceEmbeddings(Z, "cpu")
    with pytest.raises(InvalidInputError, match="must be that of the embeddings, cpu; got meta"):
        device_of(kept, "meta")
    with pytest.raises(InvalidInputError, match="embeddings an array, for the backend 'numpy'"):
        clip_al.scores.sample_diversity_scores(kept, y, backend="numpy")


def test_without_a_gpu_nothing_is_sent(data):
    assert keep_on(data[0], None) is data[0]
    assert keep_on(data[0], "cpu") is data[0]
    assert device_of(data[0], "cpu") is None
