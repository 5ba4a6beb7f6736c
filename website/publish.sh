#!/bin/sh
# Adds the built site to those of earlier versions on the branch gh-pages, and pushes it: sh website/publish.sh 1.2.3
# Needs nothing but git and Python, because it runs with the right to write.
set -eu
cd "$(dirname "$0")/.."
pages=.site/gh-pages
git worktree remove --force "$pages" 2>/dev/null || rm -rf "$pages"
if git fetch --quiet --depth 1 origin gh-pages 2>/dev/null; then
    git worktree add --quiet --detach "$pages" FETCH_HEAD
else
    git worktree add --quiet --detach --no-checkout "$pages"
    git -C "$pages" switch --quiet --orphan gh-pages
fi
python3 -m website.versions .site/html "$pages" "$1"
git -C "$pages" add --all
if git -C "$pages" diff --cached --quiet; then
    echo "$1 is there already."
    exit
fi
git -C "$pages" -c user.name=github-actions -c user.email=github-actions@users.noreply.github.com \
    commit --quiet --message "The site of $1"
git -C "$pages" push --quiet origin HEAD:gh-pages
