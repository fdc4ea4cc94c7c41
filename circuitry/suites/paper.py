"""The paper whose experiments the shipped suites follow; reports cite it."""

CITATION = """@article{wang2024towards,
  title   = {Towards Universality: Studying Mechanistic Similarity Across Language Model Architectures},
  author  = {Wang, Junxuan and Ge, Xuyang and Shu, Wentao and Tang, Qiong and Zhou, Yunhua and He, Zhengfu and Qiu, Xipeng},
  journal = {arXiv preprint arXiv:2410.06672},
  year    = {2024}
}"""
