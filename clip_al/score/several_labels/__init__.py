"""Which labels are wrong where an image may have several, or none.

held_out   what the other images say of each label of an image: ridge regression
pair_noise labels given that should not be, labels missing that should be there: their shares
suspects   the public function, and what it returns
"""
