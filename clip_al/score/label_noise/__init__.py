"""How many labels are wrong, which classes are labelled as which, and which labels are right.

symmetric   labels drawn by chance alone: one share, and the temperature of the softmax
evidence    what speaks for each class of an image: text, class mean, ridge regression, each
without the image's own label
kernel, fit the likeliest confusion of classes for a sample
confusion   what that says of all labels, and of each
estimate    the public function
"""
