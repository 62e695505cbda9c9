"""How one batch is assigned and added: the meaning (`reference`) and the fast ways to the same bits."""
