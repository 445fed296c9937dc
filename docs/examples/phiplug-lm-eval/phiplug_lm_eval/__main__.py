"""`python -m phiplug_lm_eval`: the harness's command line, with the model `phiplug`."""

from phiplug_lm_eval import main

main()
