"""Looking at synthetic faces beside what they were made of: in a browser, and in a notebook."""

from expraug.review.gallery import Gallery, show
from expraug.review.page import review, review_page

__all__ = ["Gallery", "review", "review_page", "show"]
