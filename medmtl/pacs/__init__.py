"""Studies from, and results to, an archive that speaks DICOMweb (PS3.18).

- address: what a user types -> PacsAddress (a server and a query)
- credentials: who asks; never shown
- archive: query, retrieve and store, with retries
- retrieve: a study's images into a folder, only those that are not there yet
- push: result files into the archive, only those that it does not hold yet
- journal: what a watcher has done, on the disk
- arrivals: studies of an archive that are complete and not analysed yet
- drop_folder: files of a folder that nobody writes any more
"""
