from ulcompress.evaluation.page.embedding import embedded
from ulcompress.evaluation.page.page import write_page

__all__ = ["embedded", "write_page"]
