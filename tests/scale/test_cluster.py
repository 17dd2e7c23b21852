import pytest

from sor_ppa.scale.cluster import joined_cluster


def test_other_addresses_are_refused():
    found = "--ray: expected local, auto or HOST:PORT, found 'photos'"
    with pytest.raises(ValueError, match=found), joined_cluster("photos"):
        pass
