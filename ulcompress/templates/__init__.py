"""Templates of `ulcompress new`: for each slot a part that works, and the experiment that trains it.

In the text of a template `Template` stands for the part's name, `template_package` for the package and `template_slot`
for the slot.
"""
