"""Raw sets as they lie on disk, written from polylines: the readers' independent side.

The layouts are the data sets' own; nothing here uses the project's readers, writers or rasterizers. A
`write_…` function gives a set without a fault and says what is true of it; faults are put in afterward,
by the functions of the same module and of `pictures`.
"""
