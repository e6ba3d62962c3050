# SPDX-License-Identifier: Apache-2.0
"""Who may what, written down once more: {(role, where it is needed): operations}. A route that is added, or whose role changes, has to be put
here as well, by somebody who has thought about it; test_access.py compares this with the route table and then tries each as everybody."""

# 'anyone': before one has said who one is. 'self': about the caller alone, or what the caller may see.
WHO_MAY = {
    ("anyone", "project"): """
        getOpenapi getSetup logIn setUp""",
    ("viewer", "node"): """
        getMetrics getNode getNodeHistory listUsers""",
    ("viewer", "project"): """
        explainInstance getImage getImageDisk getInstance getInstanceGuest getInstanceHistory getInstanceLog getInstanceStats
        getNetwork getProfile getProject getProjectUsage getRole getSnapshot getTask getVolume getVolumeDisk listImages
        listInstances listNetworks listPorts listProfiles listRoles listSnapshots listTasks listVolumes""",
    ("viewer", "self"): """
        beginTotp confirmTotp createToken deleteToken getCatalogue getPool getSession getToken getTotp getUsage getUser listCatalogues
        listPools listProjects listTokens logOut removeTotp setPassword watchEvents""",
    ("operator", "project"): """
        cancelTask changeImage changeInstance changeProfile changeSnapshot changeVolume cloneInstance cloneVolume coolImage flattenInstance flattenVolume
        createImage createInstance createProfile createSnapshot createVolume deleteImage deleteInstance deleteProfile renameProfile
        deleteSnapshot deleteTask deleteVolume doInBulk getImageContent getImageInitrd getImageKernel getNetworkDoctor
        getVolumeContent moveVolume openInstanceConsole readInstanceFile refreshCatalogue renameImage renameInstance renameVolume
        resetInstance restartInstance revertSnapshot runInInstance sendImageContent sendVolumeContent warmImage writeInstanceFile""",
    ("admin", "node"): """
        changePool changeProject changeUser createPool createProject createUser deletePool deleteProject deleteUser listAudit verifyAudit""",
    ("admin", "project"): """
        changeNetwork changeRole createNetwork createRole deleteNetwork deleteRole renameNetwork""",
}
