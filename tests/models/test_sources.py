import pytest

from apps.models.installs.sources import BadSource, Source, parse

HUB = "https://huggingface.co"
MIRROR = "http://mirror.example:8080/hf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("acme/tiny", "acme/tiny", "main"),
        ("  acme/tiny\n", "acme/tiny", "main"),
        ("acme/tiny@v1.0", "acme/tiny", "v1.0"),
        (f"acme/tiny@{COMMIT}", "acme/tiny", COMMIT),
        ("acme/tiny@refs/pr/3", "acme/tiny", "refs/pr/3"),
        (f"{HUB}/Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "main"),
        (f"{HUB}/acme/tiny/", "acme/tiny", "main"),
        (f"{HUB}/acme/tiny/tree/main", "acme/tiny", "main"),
        (f"{HUB}/acme/tiny/tree/refs%2Fpr%2F3", "acme/tiny", "refs/pr/3"),
        ("https://hf.co/acme/tiny", "acme/tiny", "main"),
        ("hf.co/acme/tiny", "acme/tiny", "main"),
        ("huggingface.co/acme/tiny/tree/v2", "acme/tiny", "v2"),
    ],
)
def test_it_works(text: str, repo: str, revision: str) -> None:
    assert parse(text, endpoint=HUB) == Source(repo, revision)
    assert parse(text, endpoint=MIRROR) == Source(repo, revision)


def test_a_mirrors_address_is_the_hubs() -> None:
    assert parse("http://mirror.example:8080/acme/tiny", endpoint=MIRROR).repo == "acme/tiny"
    with pytest.raises(BadSource, match=r"Models come from https://huggingface\.co"):
        parse("http://mirror.example:8080/acme/tiny", endpoint=HUB)


def test_a_folder_is_named_by_its_whole_path() -> None:
    source = parse("/srv/models/mine", endpoint=HUB)
    assert (str(source.folder), source.suggested_name) == ("/srv/models/mine", "mine")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tiny",
        "./acme/tiny",
        "../acme/tiny",
        "acme/tiny/more",
        "acme/../tiny",
        "acme/..",
        "acme/ti ny",
        "acme/tiny@",
        "acme/tiny@../main",
        "acme/tiny@-x",
        "acme/tiny@a b",
        "acme/t\u0456ny",
        "acme/tiny\0",
        "a--b/c",
        "acme/" + "x" * 97,
        "-acme/tiny",
        "acme/tiny.git",
        "file:///etc/passwd",
        "ftp://huggingface.co/acme/tiny",
        "http://huggingface.co/acme/tiny",
        "https://huggingface.co.evil.example/acme/tiny",
        "https://evil.example/acme/tiny",
        "https://huggingface.co@evil.example/acme/tiny",
        "https://user:pass@huggingface.co/acme/tiny",
        "https://huggingface.co:8443/acme/tiny",
        "https://huggingface.co/acme/tiny?x=1",
        "https://huggingface.co/acme/tiny#x",
        "https://huggingface.co/datasets/acme/tiny",
        "https://huggingface.co/acme/tiny/blob/main/config.json",
        "https://huggingface.co/acme/tiny/tree",
        "https://huggingface.co/acme/%2e%2e%2ftiny",
        "https://[::1/acme/tiny",
        "https://huggingface.co/",
        "/srv/../etc",
        "/srv/\0",
    ],
)
def test_it_rejects(text: str) -> None:
    with pytest.raises(BadSource) as error:
        parse(text, endpoint=HUB)
    assert str(error.value)
