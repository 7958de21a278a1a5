"""MkDocs hook: links from a page to a file of the repository that is not a page.

They work where the page is read in the repository. On the site the file's path is shown instead.
"""

import re
from pathlib import Path

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]*)\)")


def on_page_markdown(markdown, *, page, config, files):
    """Replaces a link to a file outside docs/ by the file's path; a file that does not exist stays a link.

    MkDocs reports the link that stays, and a strict build fails.
    """
    docs = Path(config.docs_dir).resolve()
    folder = (docs / page.file.src_uri).parent

    def shown(link):
        target = (folder / link[2]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]
        path = target.relative_to(docs.parent).as_posix()
        return link[1] if f"`{path}`" == link[1] else f"{link[1].strip('`')} (`{path}`)"

    return LINK.sub(shown, markdown)
