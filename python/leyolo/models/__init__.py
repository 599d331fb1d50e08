"""The LeYOLO networks: as data (:mod:`config`, :mod:`layout`, :mod:`cost`; no torch) and in torch (:mod:`network`)."""
