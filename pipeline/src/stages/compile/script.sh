#!/bin/sh
# Stands in for a program in tests, under that program's name: does what the file of its name and `.sh` beside it says. A program that
# is never written to can be started while other tests write theirs.
. "$0.sh"
